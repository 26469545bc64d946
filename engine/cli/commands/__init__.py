"""One module for each `trimtab` command."""
