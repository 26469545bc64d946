"""From samples to anomalies: decisions without I/O. Ticks close, are scored, and become anomalies."""
