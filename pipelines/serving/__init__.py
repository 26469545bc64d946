"""Forecasts that the running engine serves, and their accuracy."""
