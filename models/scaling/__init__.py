"""Numbers for scaling ahead of load: short forecasts, capacity of a replica, time until one serves."""
