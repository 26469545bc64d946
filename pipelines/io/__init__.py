"""Readers and writers of recorded data: tables, history, labels, panels and stored forecasts."""
