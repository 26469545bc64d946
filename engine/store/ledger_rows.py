"""Conversion between ledger types and table rows; secrets are redacted in every text."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from trimtab.engine.audit.hash_chain import Head, canonical_json, hashable_details
from trimtab.engine.redaction import redact, redact_text
from trimtab.engine.types import Action, AuditRow, Pause, Recommendation, Silence, Value, iso

T = TypeVar("T")
Row = Mapping[str, Any]
UNREADABLE = "unreadable"
"""Key of the single detail of an audit row whose stored text was altered."""


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(noun: object) -> str:
    """Return an object as JSON; unknown numbers are written as NaN, which Python's json reads back."""
    return json.dumps(_adapter(type(noun)).dump_python(noun, mode="json"), separators=(",", ":"))


def from_json(kind: type[T], body: str) -> T:
    """Return the object of a JSON body."""
    noun: T = _adapter(kind).validate_python(json.loads(body))
    return noun


def redact_recommendation(item: Recommendation) -> Recommendation:
    """Return the recommendation with secrets redacted in its texts; knob values are unchanged."""
    return replace(
        item, title=redact_text(item.title), evidence=tuple(map(redact_text, item.evidence)),
        cost=redact_text(item.cost), disproof=redact_text(item.disproof),
        command=redact_text(item.command), reason=redact_text(item.reason),
    )  # fmt: skip


def redact_action(item: Action) -> Action:
    """Return the action with secrets redacted in its texts; knob values are kept for an exact rollback."""
    outcome = item.outcome
    if outcome is not None:
        outcome = replace(outcome, words=redact_text(outcome.words))
    return replace(item, told=redact_text(item.told), outcome=outcome)


def recommendation_row(item: Recommendation) -> dict[str, Any]:
    """Return the row of table `recommendations`, without its epoch."""
    return {
        "id": item.id, "created_ns": int(item.created), "expires_ns": int(item.expires),
        "state": str(item.state), "incident_id": item.incident_id, "tool": item.tool,
        "target": item.target, "fingerprint": item.fingerprint, "body": to_json(item),
    }  # fmt: skip


def action_row(item: Action) -> dict[str, Any]:
    """Return the row of table `actions`, without its epoch."""
    return {
        "id": item.id, "idempotency_key": item.key, "recommendation_id": item.recommendation_id,
        "created_ns": int(item.created), "state": str(item.state), "tool": item.tool,
        "target": item.target, "body": to_json(item),
    }  # fmt: skip


def redact_audit_details(details: Mapping[str, Value]) -> dict[str, Value]:
    """Return audit details with secrets redacted, in the canonical form that is hashed."""
    return hashable_details(cast("dict[str, Value]", redact(dict(details))))


def audit_to_row(row: AuditRow) -> dict[str, Any]:
    """Return the row of table `audit`."""
    return {
        "seq": row.seq, "time_ns": row.time, "actor": row.actor, "what": row.what, "subject": row.subject,
        "details": canonical_json(row.details), "previous": row.previous, "hash": row.hash,
        "epoch": row.epoch,
    }  # fmt: skip


def audit_from_row(row: Row) -> AuditRow:
    """Return the audit row of a table row; altered text is kept, so that its hash does not match."""
    seq = row["seq"] if isinstance(row["seq"], int) else -1
    return AuditRow(
        seq, row["time_ns"], row["actor"], row["what"], row["subject"], _parse_audit_details(row["details"]),
        row["previous"], row["hash"], row["epoch"],
    )  # fmt: skip


def _parse_audit_details(text: str) -> dict[str, Value]:
    try:
        details = json.loads(text)
        if isinstance(details, dict) and canonical_json(details) == text:
            return details
    except (ValueError, TypeError, RecursionError):
        return {UNREADABLE: str(text)}
    return {UNREADABLE: text}


def parse_head(body: str) -> Head | None:
    """Return the stored head of the audit chain; None if it was altered into something else."""
    try:
        seq, digest = json.loads(body)
    except (ValueError, TypeError):
        return None
    return (seq, digest) if isinstance(seq, int) and isinstance(digest, str) else None


def action_details(action: Action) -> dict[str, Value]:
    """Return the details of an action that every audit row about it contains."""
    return {
        "tool": action.tool, "target": action.target, "change": action.subject,
        "before": action.before, "after": action.after, "mode": str(action.mode), "by": action.by,
        "undoes": action.undoes, "recommendation": action.recommendation_id, "time_scale": action.time_scale,
    }  # fmt: skip


def silence_details(silence: Silence) -> dict[str, Value]:
    """Return the details of a silence for its audit rows."""
    return {
        "entities": ", ".join(silence.entities), "begin": iso(silence.begin), "until": iso(silence.until),
        "note": silence.note,
    }  # fmt: skip


NOT_PAUSED = Pause(on=False)
