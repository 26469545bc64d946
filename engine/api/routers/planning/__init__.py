"""Routes of forecasts, capacity, models and pipelines."""
