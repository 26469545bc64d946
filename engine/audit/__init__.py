"""The hash-chained audit log: verification and export."""
