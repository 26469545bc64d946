"""What stands behind the `trimtab` command: options, help, keys, doctor, errors as people read them."""
