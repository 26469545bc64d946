"""What the engine leans on: logs, metrics and other helpers that are strangers to each other."""
