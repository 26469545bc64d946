"""Score recorded series with the code that scores live ones."""
