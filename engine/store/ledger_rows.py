"""Recommendations, actions and audit rows to table rows and back; secrets stay out of every text."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from trimtab.engine.audit.hash_chain import Head, canonical, settled
from trimtab.engine.redaction import redact, redact_text
from trimtab.engine.types import Action, AuditRow, Pause, Recommendation, Silence, Value, iso

T = TypeVar("T")
Row = Mapping[str, Any]
UNREADABLE = "unreadable"
"""Name of the one detail of an audit row whose text is not as it was written."""


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(noun: object) -> str:
    """A noun as JSON; unknown numbers as NaN, which Python's JSON reads back."""
    return json.dumps(_adapter(type(noun)).dump_python(noun, mode="json"), separators=(",", ":"))


def from_json(kind: type[T], body: str) -> T:
    """The noun of a body."""
    noun: T = _adapter(kind).validate_python(json.loads(body))
    return noun


def redact_recommendation(given: Recommendation) -> Recommendation:
    """Without secrets in what people read; the values stay as they are."""
    return replace(
        given, title=redact_text(given.title), evidence=tuple(map(redact_text, given.evidence)),
        cost=redact_text(given.cost), disproof=redact_text(given.disproof),
        command=redact_text(given.command), reason=redact_text(given.reason),
    )  # fmt: skip


def redact_action(given: Action) -> Action:
    """Without secrets in what people read; the values stay as they are, so that undoing is exact."""
    outcome = given.outcome
    if outcome is not None:
        outcome = replace(outcome, words=redact_text(outcome.words))
    return replace(given, told=redact_text(given.told), outcome=outcome)


def recommendation_row(given: Recommendation) -> dict[str, Any]:
    """A row of table `recommendations`."""
    return {
        "id": given.id, "created_ns": int(given.created), "expires_ns": int(given.expires),
        "state": str(given.state), "incident_id": given.incident_id, "tool": given.tool,
        "target": given.target, "fingerprint": given.fingerprint, "body": to_json(given),
    }  # fmt: skip


def action_row(given: Action) -> dict[str, Any]:
    """A row of table `actions`."""
    return {
        "id": given.id, "idempotency_key": given.key, "recommendation_id": given.recommendation_id,
        "created_ns": int(given.created), "state": str(given.state), "tool": given.tool,
        "target": given.target, "body": to_json(given),
    }  # fmt: skip


def redact_audit_details(details: Mapping[str, Value]) -> dict[str, Value]:
    """Details without secrets, and as they can be hashed."""
    return settled(cast("dict[str, Value]", redact(dict(details))))


def audit_to_row(row: AuditRow) -> dict[str, Any]:
    """A row of table `audit`."""
    return {
        "seq": row.seq, "time_ns": row.time, "actor": row.actor, "what": row.what, "subject": row.subject,
        "details": canonical(row.details), "previous": row.previous, "hash": row.hash, "epoch": row.epoch,
    }  # fmt: skip


def audit_from_row(row: Row) -> AuditRow:
    """The audit row of a row; a text that was edited is given as such, so that its hash does not fit."""
    seq = row["seq"] if isinstance(row["seq"], int) else -1
    return AuditRow(
        seq, row["time_ns"], row["actor"], row["what"], row["subject"], _parse_audit_details(row["details"]),
        row["previous"], row["hash"], row["epoch"],
    )  # fmt: skip


def _parse_audit_details(text: str) -> dict[str, Value]:
    try:
        details = json.loads(text)
        if isinstance(details, dict) and canonical(details) == text:
            return details
    except (ValueError, TypeError, RecursionError):
        return {UNREADABLE: str(text)}
    return {UNREADABLE: text}


def parse_head(body: str) -> Head | None:
    """The head of an audit as it was remembered; None = it was edited into something else."""
    try:
        seq, digest = json.loads(body)
    except (ValueError, TypeError):
        return None
    return (seq, digest) if isinstance(seq, int) and isinstance(digest, str) else None


def action_details(action: Action) -> dict[str, Value]:
    """What an audit row says of an action, whatever is done with it."""
    return {
        "tool": action.tool, "target": action.target, "change": action.subject,
        "before": action.before, "after": action.after, "mode": str(action.mode), "by": action.by,
        "undoes": action.undoes, "recommendation": action.recommendation_id, "time_scale": action.time_scale,
    }  # fmt: skip


def silence_details(silence: Silence) -> dict[str, Value]:
    """What an audit row says of a silence."""
    return {
        "entities": ", ".join(silence.entities), "begin": iso(silence.begin), "until": iso(silence.until),
        "note": silence.note,
    }  # fmt: skip


NOT_PAUSED = Pause(on=False)
