"""From patterns and target facts to recommended changes."""
