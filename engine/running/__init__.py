"""How an engine starts, keeps what it knows, serves, reloads and stops: the parts that app and loop join."""
