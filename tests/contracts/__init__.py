"""Contract tests that every store implementation inherits."""
