"""Detection algorithms, one a file; `trimtab.models.catalogue` lists them by name."""
