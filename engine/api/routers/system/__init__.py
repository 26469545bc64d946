"""Routes of docs, health, keys, metrics, session and status."""
