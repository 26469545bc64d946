"""Collected history in, judged models out."""
