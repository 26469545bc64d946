"""Tests, their fakes and their plain twins."""
