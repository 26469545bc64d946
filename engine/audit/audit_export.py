"""The audit, looked at as a whole: is it as it was written, and a copy of it for elsewhere."""

from collections.abc import Iterator
from dataclasses import asdict

from trimtab.engine.audit.hash_chain import Finding, canonical, findings
from trimtab.engine.ports import Ledger
from trimtab.engine.types import AuditRow

_PAGE = 1000


def verify(ledger: Ledger) -> list[Finding]:
    """What is wrong with the audit, oldest first; empty = nothing was removed, edited, moved or put in.

    Rows that are written meanwhile are left for the next time. Raises StoreError where it cannot be read.
    """
    heads = ledger.audit_heads()
    last = None if heads.store is None else heads.store[0]
    found = list(findings(_rows(ledger, last), heads))
    if last is not None and not found:
        found.extend(_past(ledger, last))
    return found


def export(ledger: Ledger) -> Iterator[str]:
    """Each row as one line of JSON, oldest first; a copy kept elsewhere proves what was there at its time."""
    for row in _rows(ledger, None):
        yield canonical(asdict(row)) + "\n"


def _rows(ledger: Ledger, last: int | None) -> Iterator[AuditRow]:
    """All rows, up to `last`, page by page."""
    after = 0
    while page := ledger.audit_rows(after=after, limit=_PAGE):
        for row in page:
            if last is not None and row.seq > last:
                return
            yield row
        if page[-1].seq <= after:
            return  # somebody put a row there whose number is none
        after = page[-1].seq


def _past(ledger: Ledger, last: int) -> Iterator[Finding]:
    """Rows that no head knows, though everything up to `last` fits."""
    now = ledger.audit_heads().store
    newest = last if now is None else now[0]
    for row in ledger.audit_rows(after=newest, limit=1):
        if ledger.audit_heads().store == now:
            yield Finding(row.seq, "the store does not know the rows from here on: written past Trimtab")
