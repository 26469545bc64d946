"""Managed tools: their metrics, knobs and actions."""
