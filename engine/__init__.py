"""The running system: sources, detection, incidents, actions, storage, API and dashboard."""
