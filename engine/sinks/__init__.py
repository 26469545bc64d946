"""Where scored ticks go."""
