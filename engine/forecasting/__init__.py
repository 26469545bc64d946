"""Load forecasts and model training in the running engine."""
