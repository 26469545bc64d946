"""Forecast recorded series and measure the accuracy of forecasts."""
