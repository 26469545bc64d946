"""Pictures and HTML reports of scores, forecasts and backtests."""
