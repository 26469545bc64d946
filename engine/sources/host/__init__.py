"""The host source: metrics of this machine and its processes."""
