"""Scores, ticks and state snapshots on disk."""
