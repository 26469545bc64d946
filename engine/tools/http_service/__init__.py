"""A service that exposes knobs and actions over HTTP as a managed tool."""
