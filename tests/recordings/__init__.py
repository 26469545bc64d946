"""Labelled recordings of services in trouble, and of healthy ones: recorded from real processes, and simulated."""
