"""From anomalies to incidents: grouping, severity, root cause, notification policy."""
