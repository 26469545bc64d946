"""Redis as a managed tool."""
