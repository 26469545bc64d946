"""Forecasts that the running engine serves, and how accurate they turned out."""
