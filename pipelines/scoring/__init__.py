"""Score recorded series with the scorer of the live engine."""
