"""Managed tools: what can be read of them, changed in them, and told to them."""
