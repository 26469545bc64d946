"""Inputs of predictive scaling: short forecasts, capacity of a replica, startup time."""
