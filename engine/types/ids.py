"""Ids of what is made at a known time."""

from ulid import ULID


def new_ulid(time_ns: int) -> str:
    """A new id that sorts by its time.

    >>> new_ulid(2 * 10**18) > new_ulid(10**18)
    True
    """
    return str(ULID.from_timestamp(time_ns / 1e9))
