"""Sinks: receivers of scored ticks."""
