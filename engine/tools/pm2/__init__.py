"""PM2 as a managed tool."""
