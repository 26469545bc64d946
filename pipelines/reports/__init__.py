"""Plots and reports of scores, forecasts and backtests."""
