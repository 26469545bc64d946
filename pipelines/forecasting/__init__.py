"""Forecast recorded series and measure how good forecasts were."""
