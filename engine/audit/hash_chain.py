"""Hash chain of audit rows: each hash covers its row and the previous hash, so every change is detected.

There is no key, so an attacker who can write every copy can forge a whole chain. Forgery is detected as long
as one of these is intact: the rows, the head in the store, the head in the data folder, or an exported copy.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from trimtab.engine.types import AuditHeads, AuditRow, Value

Head = tuple[int, str]
"""Sequence number and hash of the newest row."""
CHAIN_START: Head = (0, "")
"""Head before the first row."""


def canonical_json(value: object) -> str:
    r"""Return canonical JSON: sorted keys, no spaces, ASCII only.

    Raises ValueError for NaN and infinity, which `hashable_details` turns into None.

    >>> canonical_json({"b": 1.0, "a": "é"})
    '{"a":"\\u00e9","b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hashable_details(details: Mapping[str, Value]) -> dict[str, Value]:
    """Return details with NaN and infinity replaced by None.

    >>> hashable_details({"hit_ratio": float("nan"), "size": 3})
    {'hit_ratio': None, 'size': 3}
    """
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in details.items()
    }


def row_hash(row: AuditRow) -> str:
    """Return the SHA-256 of all fields of a row except its hash, as hex."""
    content = [row.seq, row.time, row.actor, row.what, row.subject, row.details, row.previous, row.epoch]
    # A foreign row may hold any type; it needs a hash, too.
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(plain.encode()).hexdigest()


def append_to_chain(row: AuditRow, head: Head) -> AuditRow:
    """Return the row with sequence number, previous hash and hash, as the successor of `head`."""
    placed = replace(row, seq=head[0] + 1, previous=head[1], details=hashable_details(row.details), hash="")
    return replace(placed, hash=row_hash(placed))


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A violation of the audit chain at a row.

    seq  : sequence number of the row
    what : description
    """

    seq: int
    what: str


def verify_chain(rows: Iterable[AuditRow], heads: AuditHeads) -> Iterator[AuditFinding]:
    """Yield the violations in a whole chain, oldest first.

    rows  : all rows in order of `seq`
    heads : heads read while no row was being written
    """
    before, hashes = CHAIN_START, {CHAIN_START[0]: CHAIN_START[1]}
    wanted = {head[0] for head in (heads.store, heads.folder) if head is not None}
    for row in rows:
        yield from _check_link(row, before)
        before = (row.seq if isinstance(row.seq, int) else before[0] + 1, row.hash)
        if row.seq in wanted:
            hashes[row.seq] = row.hash
    for name, head in (("store", heads.store), ("data folder", heads.folder)):
        yield from _check_head(name, head, before, hashes)


def _check_link(row: AuditRow, before: Head) -> Iterator[AuditFinding]:
    if row.seq != before[0] + 1:
        yield AuditFinding(row.seq, f"row {before[0] + 1} was expected here: rows were removed or moved")
    if row.previous != before[1]:
        yield AuditFinding(
            row.seq, "it does not follow the previous row: a row was removed, inserted or changed"
        )
    if row.hash != row_hash(row):
        yield AuditFinding(row.seq, "its content does not match its hash: it was edited")


def _check_head(
    name: str, head: Head | None, last: Head, hashes: Mapping[int, str]
) -> Iterator[AuditFinding]:
    if head is None:
        if last != CHAIN_START:
            yield AuditFinding(last[0], f"the head in the {name} was removed")
    elif head[0] > last[0]:
        yield AuditFinding(
            last[0], f"the head in the {name} is row {head[0]}: the rows after this one were removed"
        )
    elif hashes.get(head[0]) != head[1]:
        yield AuditFinding(head[0], f"the head in the {name} has another hash for this row: it was replaced")
    elif head[0] < last[0]:
        yield AuditFinding(
            head[0] + 1,
            f"the head in the {name} does not cover the rows from here on: they were not written by Trimtab",
        )
