"""From detector statistics to scores: tail probabilities, event scores and alarms."""
