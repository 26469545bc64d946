"""Numbers in, numbers out: detectors, calibration, scoring and alarms. No clock, files or network."""
