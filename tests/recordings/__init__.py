"""Labelled recordings of faulty and healthy services, from real processes and simulations."""
