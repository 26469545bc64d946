"""Routes of the audit."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from trimtab.engine.api.detail_views import last_audit_seq
from trimtab.engine.api.loop_ports import LoopPortsDep
from trimtab.engine.api.parameters import Limit
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.shapes.examples import AUDIT_ROW
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response
from trimtab.engine.api.shapes.loop_shapes import AuditRowShape, example_response, record_json
from trimtab.engine.ports import Ledger
from trimtab.engine.types import AuditRow

router = APIRouter(prefix="/api/audit", tags=["audit"])
MAX_SUBJECT_ROWS = 10_000
Seq = Annotated[
    int | None,
    Query(ge=0, lt=2**63, description="`next` of the previous page: only rows with a smaller `seq`."),
]


class AuditPage(JsonShape):
    """A page of the audit, newest first."""

    items: list[AuditRowShape]  # type: ignore[valid-type]  # derived from the dataclass
    next: int | None = Field(description="`after` of the next page; null = last page.")


class Verified(JsonShape):
    """Result of verifying the audit."""

    ok: bool
    rows: int
    problem: str | None = Field(description="What is wrong; null = the audit is intact.")


_PAGE = example_response(AuditPage, {"items": [record_json(AUDIT_ROW)], "next": AUDIT_ROW.seq})
_VERIFIED = example_response(Verified, {"ok": True, "rows": 12, "problem": None})


@router.get("", summary="List the audit", responses=_PAGE)
def list_audit(
    loop: LoopPortsDep,
    subject: Annotated[
        str | None, Query(max_length=200, description="Only rows with this subject, by its id.")
    ] = None,
    limit: Limit = 100,
    after: Seq = None,
) -> Response:
    """A page of the audit, newest first."""
    found = (
        _rows_before(loop.ledger, after, limit)
        if subject is None
        else _subject_rows(loop.ledger, subject, after)
    )
    page = found[:limit]
    next_cursor = (
        page[-1].seq if page and (page[-1].seq > 1 if subject is None else len(found) > limit) else None
    )
    return json_response({"items": [record_json(row) for row in page], "next": next_cursor})


@router.get("/verify", summary="Verify the audit", responses=_VERIFIED)
def verify(loop: LoopPortsDep) -> Response:
    """Verify the whole hash chain; detects deleted, edited and swapped rows."""
    if loop.verify_audit is None:
        raise ProblemError(503, "The audit cannot be verified here; run `trimtab audit verify`.")
    wrong = loop.verify_audit()
    return json_response({"ok": wrong is None, "rows": last_audit_seq(loop.ledger), "problem": wrong})


def _rows_before(ledger: Ledger, before: int | None, limit: int) -> list[AuditRow]:
    """Return up to `limit` rows before a `seq`, newest first."""
    newest = last_audit_seq(ledger)
    last = newest if before is None else max(0, min(newest, before - 1))
    first = max(0, last - limit)
    return ledger.audit_rows(after=first, limit=last - first)[::-1] if last else []


def _subject_rows(ledger: Ledger, subject: str, before: int | None) -> list[AuditRow]:
    rows = ledger.audit_rows(subject=subject, limit=MAX_SUBJECT_ROWS)
    return [row for row in reversed(rows) if before is None or row.seq < before]
