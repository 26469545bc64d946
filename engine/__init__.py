"""The running system: sources, sensing, store, API and dashboard around the models."""
