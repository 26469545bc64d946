"""Audit rows: who decided or did what, chained by hashes."""

from dataclasses import dataclass, field

from trimtab.engine.types.knob import Value


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the audit: a decision or an action, and its actor; chained by hashes.

    seq       : 1, 2, 3 ... without gaps
    time      : int64 ns UTC
    hash      : SHA-256 of the row and `previous`, hex; see `trimtab.engine.audit.hash_chain`
    epoch     : epoch of the engine's lease under which the row was written
    """

    seq: int
    time: int
    actor: str
    what: str
    subject: str
    details: dict[str, Value] = field(default_factory=dict)
    previous: str = ""
    hash: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class AuditHeads:
    """Last (seq, hash) of the audit as recorded in two places; None = not recorded there.

    store  : in the database, written in the same transaction as each row
    folder : in a file of the data folder, written right after each row
    """

    store: tuple[int, str] | None
    folder: tuple[int, str] | None
