"""HTTP API: one router per resource, access denied by default, all data read through ports."""
