"""Current state of every source, for the API and its event stream."""
