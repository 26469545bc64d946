"""Audit rows as a chain: each hash covers its row and the hash before, so that no change stays unseen.

Without a key whoever can write all places at once can write a new chain. It is found as long as one of
them is out of reach: the rows, the head beside them, the head in the data folder, or an exported copy.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from trimtab.engine.types import AuditHeads, AuditRow, Value

Head = tuple[int, str]
"""seq and hash of the newest row."""
START: Head = (0, "")
"""What the first row follows."""


def canonical(value: object) -> str:
    r"""JSON that is the same for the same value: sorted names, no spaces, ASCII only.

    Raises ValueError for a number that JSON does not have: `settled` turns those into None.

    >>> canonical({"b": 1.0, "a": "é"})
    '{"a":"\\u00e9","b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def settled(details: Mapping[str, Value]) -> dict[str, Value]:
    """Details as they can be hashed: what is unknown is None.

    >>> settled({"hit_ratio": float("nan"), "size": 3})
    {'hit_ratio': None, 'size': 3}
    """
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in details.items()
    }


def row_hash(row: AuditRow) -> str:
    """SHA-256 over all of a row but its hash, hex."""
    content = [row.seq, row.time, row.actor, row.what, row.subject, row.details, row.previous, row.epoch]
    # What somebody put there with another tool may be of any type; it has a hash all the same.
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(plain.encode()).hexdigest()


def chained(row: AuditRow, head: Head) -> AuditRow:
    """The row as the one that follows `head`."""
    placed = replace(row, seq=head[0] + 1, previous=head[1], details=settled(row.details), hash="")
    return replace(placed, hash=row_hash(placed))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the audit, at a row; `what` is a sentence for people."""

    seq: int
    what: str


def findings(rows: Iterable[AuditRow], heads: AuditHeads) -> Iterator[Finding]:
    """What is wrong with a whole chain, oldest first; nothing = it is as it was written.

    rows  : all of them, by `seq`
    heads : read when no row was being written
    """
    before, seen = START, {START[0]: START[1]}
    wanted = {head[0] for head in (heads.store, heads.folder) if head is not None}
    for row in rows:
        yield from _link(row, before)
        before = (row.seq if isinstance(row.seq, int) else before[0] + 1, row.hash)
        if row.seq in wanted:
            seen[row.seq] = row.hash
    for name, head in (("store", heads.store), ("data folder", heads.folder)):
        yield from _end(name, head, before, seen)


def _link(row: AuditRow, before: Head) -> Iterator[Finding]:
    if row.seq != before[0] + 1:
        yield Finding(row.seq, f"row {before[0] + 1} was wanted here: rows were removed or moved")
    if row.previous != before[1]:
        yield Finding(row.seq, "it does not follow the row before: one was removed, put in or changed")
    if row.hash != row_hash(row):
        yield Finding(row.seq, "its content does not fit its hash: it was edited")


def _end(name: str, head: Head | None, last: Head, seen: Mapping[int, str]) -> Iterator[Finding]:
    if head is None:
        if last != START:
            yield Finding(last[0], f"the {name} does not remember where the audit ends: its head was removed")
    elif head[0] > last[0]:
        yield Finding(last[0], f"the {name} remembers a row {head[0]}: the rows after this one were cut off")
    elif seen.get(head[0]) != head[1]:
        yield Finding(head[0], f"the {name} remembers another hash of this row: it was replaced")
    elif head[0] < last[0]:
        yield Finding(
            head[0] + 1, f"the {name} does not know the rows from here on: they were written past Trimtab"
        )
