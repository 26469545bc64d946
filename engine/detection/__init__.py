"""From samples to anomalies of one source: ticks, scores, absences. No I/O."""
