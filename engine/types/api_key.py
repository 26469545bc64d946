"""Who may come in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    hash : SHA-256 of the secret, hex
    """

    id: str
    name: str
    prefix: str
    hash: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None
    revoked: int | None = None
