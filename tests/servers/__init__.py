"""Real servers and receivers for tests, on free loopback ports, ended with the test."""
