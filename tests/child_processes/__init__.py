"""Programs that tests start, kill or starve of disk space."""
