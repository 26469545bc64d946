"""Learning from past incidents: which metrics move together, and which incidents are similar. No I/O."""
