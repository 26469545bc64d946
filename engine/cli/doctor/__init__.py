"""`trimtab doctor`: checks of settings, sources, tools and receivers."""
