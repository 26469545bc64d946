"""ULIDs: identifiers that sort by creation time."""

import hashlib

from ulid import ULID


def new_ulid(time_ns: int) -> str:
    """Return a new random ULID for `time_ns` (int64 ns UTC).

    >>> new_ulid(2 * 10**18) > new_ulid(10**18)
    True
    """
    return str(ULID.from_timestamp(time_ns / 1e9))


def derived_ulid(time: int, *parts: str) -> str:
    """Return a ULID for `time` (int64 ns UTC) that is derived from `parts`: equal input gives an equal id.

    >>> derived_ulid(1_500_000_000, "a") == derived_ulid(1_500_000_000, "a")
    True
    >>> derived_ulid(1_500_000_000, "a") < derived_ulid(2_500_000_000, "a")
    True
    """
    tail = hashlib.blake2b("\0".join(parts).encode(), digest_size=10).digest()
    return str(ULID((time // 1_000_000).to_bytes(6, "big") + tail))
