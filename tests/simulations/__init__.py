"""Simulated series, fleets and guard worlds for statistical tests."""
