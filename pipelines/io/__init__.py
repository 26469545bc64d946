"""Read and write recorded data: tables, history, labels, panels and stored forecasts."""
