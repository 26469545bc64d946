"""Turns detector statistics into scores: tail probabilities, event scores and alarms."""
