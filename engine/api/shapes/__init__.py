"""JSON shapes of the API and the examples in its documentation."""
