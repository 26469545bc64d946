"""Operating-system concerns: compiled-kernel cache, child processes, memory."""
