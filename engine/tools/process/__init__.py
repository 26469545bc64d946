"""Processes of this machine as a managed tool."""
