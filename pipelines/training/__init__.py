"""Evaluate, gate and promote trained models, one run at a time."""
