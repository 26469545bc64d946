"""Pipelines over recorded history: read it, score it, forecast it, train models from it."""
