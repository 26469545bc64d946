"""The running engine: start-up, source loops, persistence, settings reload and shutdown."""
