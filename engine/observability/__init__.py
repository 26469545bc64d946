"""Logs and metrics of the engine."""
