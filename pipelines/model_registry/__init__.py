"""Stored models: artifacts on disk, the MLflow registry, and loading without executing foreign code."""
