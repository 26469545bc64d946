"""Guard rules: whether an action may run now, needs approval, or is refused. No I/O in the rules."""
