"""Builders of the objects and assemblies that tests start from."""
