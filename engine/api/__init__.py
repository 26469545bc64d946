"""HTTP: one router a noun, denied by default, everything read through the ports."""
