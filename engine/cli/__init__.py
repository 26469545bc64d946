"""The `trimtab` command: options, help, output and error messages."""
