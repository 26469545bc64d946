"""Labelled recordings of services in trouble and of healthy ones: of real processes, and simulated."""
