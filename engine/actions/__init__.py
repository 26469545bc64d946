"""Guarded changes: guard, journal, executor, verification, rollback."""
