"""What should be changed, and why: from patterns and facts to recommendations. Decides, does no I/O."""
