"""Routes of recommendations, actions, tools, pause and audit."""
