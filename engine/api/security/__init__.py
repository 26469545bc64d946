"""API access: keys, sessions, the access table, host and CSRF checks."""
