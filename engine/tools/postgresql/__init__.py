"""PostgreSQL as a managed tool."""
