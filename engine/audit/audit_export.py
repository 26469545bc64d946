"""Verification and export of the whole audit."""

from collections.abc import Iterator
from dataclasses import asdict

from trimtab.engine.audit.hash_chain import AuditFinding, canonical_json, verify_chain
from trimtab.engine.ports import Ledger
from trimtab.engine.types import AuditRow

_PAGE = 1000


def verify_audit(ledger: Ledger) -> list[AuditFinding]:
    """Verify the audit; return the findings, oldest first. Empty = the audit is intact.

    Rows appended during the verification are not checked. Raises StoreError if the audit cannot be read.
    """
    heads = ledger.audit_heads()
    last = None if heads.store is None else heads.store[0]
    found = list(verify_chain(_rows(ledger, last), heads))
    if last is not None and not found:
        found.extend(_unrecorded_rows(ledger, last))
    return found


def export_audit(ledger: Ledger) -> Iterator[str]:
    """Yield each row as one line of JSON, oldest first. A copy kept elsewhere proves the rows it contains."""
    for row in _rows(ledger, None):
        yield canonical_json(asdict(row)) + "\n"


def _rows(ledger: Ledger, last: int | None) -> Iterator[AuditRow]:
    """Yield all rows up to sequence number `last`, read in pages."""
    after = 0
    while page := ledger.audit_rows(after=after, limit=_PAGE):
        for row in page:
            if last is not None and row.seq > last:
                return
            yield row
        if page[-1].seq <= after:
            return  # a foreign row without a valid number
        after = page[-1].seq


def _unrecorded_rows(ledger: Ledger, last: int) -> Iterator[AuditFinding]:
    """Yield a finding if rows follow the newest head although the chain up to `last` is intact."""
    now = ledger.audit_heads().store
    newest = last if now is None else now[0]
    for row in ledger.audit_rows(after=newest, limit=1):
        if ledger.audit_heads().store == now:
            yield AuditFinding(
                row.seq,
                "rows from here on are not recorded in the store's head: they were not written by Trimtab",
            )
