"""Routes of series, anomalies, incidents, changes, alerts, silences and the event stream."""
