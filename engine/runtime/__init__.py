"""The running engine: start-up, source loops, persistence, reload and shutdown."""
