"""The Prometheus source: discovery, history, live queries."""
