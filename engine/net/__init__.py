"""Network building blocks: checked addresses, TLS, credentials, signatures."""
