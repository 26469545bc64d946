"""Detection: turns a source's samples into ticks, scores, anomalies and absences. No I/O."""
