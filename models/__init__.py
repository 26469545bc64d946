"""Detectors, calibration, scoring, alarms and forecasters over arrays. No clock, files or network."""
