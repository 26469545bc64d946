"""SQL store of incidents and change events."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from trimtab.engine.errors import NotFoundError
from trimtab.engine.store import tables
from trimtab.engine.store.fenced_writes import FencedDatabase
from trimtab.engine.types import Change, Incident, IncidentState

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class IncidentStore:
    """Implementation of the Incidents port on a SQL database."""

    def __init__(self, fenced: FencedDatabase) -> None:
        self.fenced = fenced

    def save_incidents(self, incidents: Iterable[Incident]) -> None:
        """Insert or update incidents by id in one transaction."""
        rows = [incident_row(incident) for incident in incidents]
        if rows:
            self.fenced.save_rows(tables.incidents, rows)

    def incident(self, incident_id: str) -> Incident:
        """Return one incident by id. Raises NotFoundError."""
        i = tables.incidents.c
        rows = self.fenced.fetch_rows(sa.select(i.body).where(i.id == incident_id))
        if not rows:
            raise NotFoundError(f"no incident has the id {incident_id!r}")
        return _incident_from_json(rows[0]["body"])

    def incidents(
        self,
        *,
        state: IncidentState | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        pattern: str | None = None,
        min_severity: float | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """List matching incidents, newest first by id; `after` is the last id of the previous page.

        open_only : only incidents that are not resolved
        since     : only incidents that were open at that time or later, int64 ns
        until     : only incidents that started before that time, int64 ns
        search    : every word must occur in the search text, case-insensitive

        Incidents that were merged into another are left out.
        """
        i = tables.incidents.c
        conditions: list[sa.ColumnElement[bool]] = [i.merged_into.is_(None)]
        conditions += [i.words.contains(word, autoescape=True) for word in (search or "").lower().split()]
        if state is not None:
            conditions.append(i.state == str(state))
        if open_only:
            conditions.append(i.state != str(IncidentState.RESOLVED))
        if since is not None:
            conditions.append(sa.or_(i.end_ns.is_(None), i.end_ns >= since))
        if until is not None:
            conditions.append(i.start_ns < until)
        if pattern is not None:
            conditions.append(i.patterns.contains(f",{pattern},", autoescape=True))
        if min_severity is not None:
            conditions.append(i.severity >= min_severity)
        if after is not None:
            conditions.append(i.id < after)
        query = sa.select(i.body).where(*conditions).order_by(i.id.desc()).limit(limit)
        return [_incident_from_json(row["body"]) for row in self.fenced.fetch_rows(query)]

    def save_change(self, change: Change) -> None:
        """Insert or update a change event by id."""
        row = {"id": change.id, "time_ns": int(change.time), "body": _to_json(change)}
        self.fenced.save_rows(tables.changes, [row])

    def changes(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Change]:
        """List change events with since <= time < until (int64 ns), newest first by id."""
        c = tables.changes.c
        conditions: list[sa.ColumnElement[bool]] = []
        if since is not None:
            conditions.append(c.time_ns >= since)
        if until is not None:
            conditions.append(c.time_ns < until)
        if after is not None:
            conditions.append(c.id < after)
        query = sa.select(c.body).where(*conditions).order_by(c.id.desc()).limit(limit)
        return [
            _change_adapter().validate_python(json.loads(row["body"]))
            for row in self.fenced.fetch_rows(query)
        ]


def incident_row(incident: Incident) -> dict[str, Any]:
    """Return the row of table `incidents`, without its epoch."""
    names = [match.name for match in incident.patterns]
    return {
        "id": incident.id, "start_ns": int(incident.start),
        "end_ns": None if incident.end is None else int(incident.end), "state": str(incident.state),
        "severity": float(incident.severity), "patterns": f",{','.join(names)},",
        "words": search_text(incident), "merged_into": incident.merged_into, "body": _to_json(incident),
    }  # fmt: skip


def search_text(incident: Incident) -> str:
    """Return the text that a search matches, in lower case."""
    suspects = [word for suspect in incident.suspects for word in (suspect.series, suspect.why)]
    patterns = [word for match in incident.patterns for word in (match.name, *match.evidence)]
    texts = [incident.title, str(incident.level), incident.acknowledged_by, incident.note]
    return "\n".join([*texts, *incident.entities, *suspects, *patterns]).lower()


def _to_json(noun: Incident | Change) -> str:
    """Return the JSON text; non-finite numbers are written as `Infinity` and `NaN`."""
    return json.dumps(asdict(noun), separators=(",", ":"))


def _incident_from_json(body: str) -> Incident:
    return _incident_adapter().validate_python(json.loads(body))


@cache
def _incident_adapter() -> "TypeAdapter[Incident]":
    from pydantic import TypeAdapter

    return TypeAdapter(Incident)


@cache
def _change_adapter() -> "TypeAdapter[Change]":
    from pydantic import TypeAdapter

    return TypeAdapter(Change)
