"""One detection algorithm a file; `trimtab.models.catalogue` names them."""
