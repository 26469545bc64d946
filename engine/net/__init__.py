"""Network building blocks: address checks, TLS, credentials, signatures, outbound HTTP."""
