"""Fakes of the engine's ports: small, in memory, scriptable."""
