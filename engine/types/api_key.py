"""API keys as the store holds them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, session or login link without its secret.

    hash : SHA-256 of the secret, hex
    created, expires, revoked : int64 ns UTC; None = never
    """

    id: str
    name: str
    prefix: str
    hash: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None
    revoked: int | None = None
