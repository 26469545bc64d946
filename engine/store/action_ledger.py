"""Recommendations, actions and the kill switch, each change in one transaction with its audit row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from trimtab.engine.audit.hash_chain import START, Head, chained
from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.redaction import redact_text
from trimtab.engine.store import ledger_rows as rows
from trimtab.engine.store import tables
from trimtab.engine.store.audit_anchor import AuditAnchor, LockedAnchor
from trimtab.engine.store.fenced_writes import FencedDatabase, upsert
from trimtab.engine.types import (
    Action,
    ActionState,
    AuditHeads,
    AuditRow,
    Pause,
    Recommendation,
    RecommendationState,
    Silence,
    Value,
)

T = TypeVar("T")
log = structlog.get_logger(__name__)

_HEAD, _PAUSE, _SILENCES = "audit_head", "pause", "silences"
ENDED_SILENCE_RETENTION_NS = 30 * 86_400 * 10**9
"""A silence that is over is listed for so long; its audit rows stay."""


@dataclass(slots=True)
class _AuditedTransaction:
    """A transaction, and where the audit ends in it."""

    connection: Connection
    epoch: int
    now: int
    head: Head

    def save(self, table: sa.Table, row: dict[str, Any]) -> None:
        upsert(self.connection, table, [{**row, "epoch": self.epoch}])

    def save_value(self, name: str, value: object) -> None:
        self.save(tables.memory, {"name": name, "body": rows.to_json(value)})

    def append_audit(self, what: str, subject: str, actor: str, details: dict[str, Value]) -> AuditRow:
        cleaned = rows.redact_audit_details(details)
        row = AuditRow(0, self.now, redact_text(actor), what, redact_text(subject), cleaned, epoch=self.epoch)
        row = chained(row, self.head)
        self.connection.execute(sa.insert(tables.audit), [rows.audit_to_row(row)])
        self.head = (row.seq, row.hash)
        self.save_value(_HEAD, self.head)
        return row


class ActionLedger:
    """The port Ledger over a SQL database.

    fenced   : the database, under the engine's lease or beside it
    anchor   : file that remembers the end of the audit, in the data folder; None = the store alone does
    boundary : called with the name of each point where a crash would part what belongs together (tests)
    """

    def __init__(
        self,
        fenced: FencedDatabase,
        anchor: Path | None = None,
        boundary: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.fenced = fenced
        self.anchor = None if anchor is None else AuditAnchor(anchor)
        self.boundary = boundary

    def save_recommendation(
        self,
        recommendation: Recommendation,
        audit: str,
        actor: str,
        expected: RecommendationState | None = None,
    ) -> None:
        """Insert, or update by id where its stored state is `expected`. Raises ConflictError."""
        wanted = rows.redact_recommendation(recommendation)
        with self._transaction() as writing:
            stored = _stored_state(writing.connection, tables.recommendations, wanted.id)
            if expected is not None and stored != expected:
                raise ConflictError(
                    f"recommendation {wanted.id} is {stored or 'not there'}, {expected} was wanted: "
                    "somebody was quicker; look at it again"
                )
            writing.save(tables.recommendations, rows.recommendation_row(wanted))
            details: dict[str, Value] = {
                "from": stored, "to": str(wanted.state), "tool": wanted.tool, "target": wanted.target,
                "change": wanted.subject, "before": wanted.before, "after": wanted.after,
                "reason": wanted.reason,
            }  # fmt: skip
            writing.append_audit(audit, wanted.id, actor, details)

    def recommendation(self, recommendation_id: str) -> Recommendation:
        """Raises NotFoundError."""
        return self._by_id(Recommendation, tables.recommendations, recommendation_id)

    def recommendations(
        self,
        *,
        state: RecommendationState | None = None,
        incident_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Recommendation]:
        """Newest first by id; `after` is the last id of the page before."""
        r = tables.recommendations.c
        equal = {r.state: state, r.incident_id: incident_id, r.tool: tool, r.target: target}
        conditions = [column == value for column, value in equal.items() if value is not None]
        if after is not None:
            conditions.append(r.id < after)
        query = sa.select(r.body).where(*conditions).order_by(r.id.desc()).limit(limit)
        return [rows.from_json(Recommendation, row["body"]) for row in self.fenced.fetch_rows(query)]

    def propose(self, action: Action, audit: str, actor: str) -> Action:
        """Insert an action; where one has its key already that one is given back, and nothing written."""
        wanted = rows.redact_action(action)
        a = tables.actions.c
        with self._transaction() as writing:
            body = writing.connection.scalar(sa.select(a.body).where(a.idempotency_key == wanted.key))
            if body is not None:
                return rows.from_json(Action, body)
            row = {**rows.action_row(wanted), "epoch": writing.epoch}
            writing.connection.execute(sa.insert(tables.actions), [row])
            writing.append_audit(
                audit, wanted.id, actor, {"to": str(wanted.state), **rows.action_details(wanted)}
            )
        return wanted

    def transition(
        self,
        action: Action,
        expected: ActionState,
        audit: str,
        actor: str,
        details: dict[str, Value] | None = None,
    ) -> Action:
        """Write an action whose stored state is `expected`. Raises ConflictError, NotFoundError."""
        wanted = rows.redact_action(action)
        with self._transaction() as writing:
            stored = _stored_state(writing.connection, tables.actions, wanted.id)
            if stored is None:
                raise NotFoundError(f"there is no action {wanted.id!r}")
            if stored != expected:
                raise ConflictError(
                    f"action {wanted.id} is {stored}, {expected} was wanted: somebody was quicker"
                )
            writing.save(tables.actions, rows.action_row(wanted))
            states: dict[str, Value] = {"from": stored, "to": str(wanted.state)}
            writing.append_audit(
                audit, wanted.id, actor, {**states, **rows.action_details(wanted), **(details or {})}
            )
        return wanted

    def action(self, action_id: str) -> Action:
        """Raises NotFoundError."""
        return self._by_id(Action, tables.actions, action_id)

    def actions(
        self,
        *,
        state: ActionState | None = None,
        unfinished: bool = False,
        recommendation_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        since: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Action]:
        """Newest first by id; `since` compares with `created`."""
        a = tables.actions.c
        equal = {a.state: state, a.recommendation_id: recommendation_id, a.tool: tool, a.target: target}
        conditions = [column == value for column, value in equal.items() if value is not None]
        if unfinished:
            conditions.append(a.state.in_([str(s) for s in ActionState if not s.is_final]))
        if since is not None:
            conditions.append(a.created_ns >= since)
        if after is not None:
            conditions.append(a.id < after)
        query = sa.select(a.body).where(*conditions).order_by(a.id.desc()).limit(limit)
        return [rows.from_json(Action, row["body"]) for row in self.fenced.fetch_rows(query)]

    def append_audit(
        self, what: str, subject: str, actor: str, details: dict[str, Value] | None = None
    ) -> AuditRow:
        """Append one audit row of its own."""
        with self._transaction() as writing:
            return writing.append_audit(what, subject, actor, details or {})

    def audit_rows(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> list[AuditRow]:
        """Rows by `seq`, oldest first, those after `after`."""
        a = tables.audit.c
        conditions = [a.seq > after] + ([] if subject is None else [a.subject == subject])
        query = sa.select(tables.audit).where(*conditions).order_by(a.seq).limit(limit)
        return [rows.audit_from_row(row) for row in self.fenced.fetch_rows(query)]

    def audit_heads(self) -> AuditHeads:
        """Where the audit ends; read while nobody writes, so that both belong together."""
        folder = nullcontext(None) if self.anchor is None else self.anchor.read_locked()
        with folder as anchored, self.fenced.database.read_transaction() as connection:
            store = _stored_head(connection)
            return AuditHeads(store, store if self.anchor is None else anchored)

    def pause(self) -> Pause:
        """Whether anything may act."""
        with self.fenced.database.read_transaction() as connection:
            body = _stored_value(connection, _PAUSE)
        return rows.NOT_PAUSED if body is None else rows.from_json(Pause, body)

    def set_pause(self, pause: Pause) -> None:
        """Switch it, with its audit row."""
        with self._transaction() as writing:
            writing.save_value(_PAUSE, pause)
            writing.append_audit(
                "paused" if pause.on else "resumed",
                _PAUSE,
                pause.by,
                {"on": pause.on, "reason": pause.reason},
            )

    def silences(self) -> list[Silence]:
        """Those of people, newest first; such as ended lately, too."""
        with self.fenced.database.read_transaction() as connection:
            return _stored_silences(connection)

    def add_silence(self, silence: Silence) -> None:
        """Keep it, with its audit row."""
        wanted = replace(silence, note=redact_text(silence.note))
        with self._transaction() as writing:
            others = _stored_silences(writing.connection)
            kept = [one for one in others if one.until > writing.now - ENDED_SILENCE_RETENTION_NS]
            writing.save_value(_SILENCES, (wanted, *kept))
            writing.append_audit("silenced", wanted.id, wanted.by, rows.silence_details(wanted))

    def end_silence(self, silence_id: str, by: str) -> Silence:
        """It ends now, with its audit row. Raises NotFoundError; ConflictError where it is over already."""
        with self._transaction() as writing:
            there = {one.id: one for one in _stored_silences(writing.connection)}
            found = there.get(silence_id)
            if found is None:
                raise NotFoundError(f"there is no silence {silence_id!r}; `trimtab silence list` shows them")
            if found.until <= writing.now:
                raise ConflictError(f"silence {silence_id} is over already")
            ended = replace(found, begin=min(found.begin, writing.now), until=writing.now)
            writing.save_value(_SILENCES, tuple({**there, silence_id: ended}.values()))
            writing.append_audit("silence ended", silence_id, by, rows.silence_details(ended))
        return ended

    def _by_id(self, kind: type[T], table: sa.Table, noun_id: str) -> T:
        found = self.fenced.fetch_rows(sa.select(table.c.body).where(table.c.id == noun_id))
        if not found:
            raise NotFoundError(f"there is no {kind.__name__.lower()} {noun_id!r}")
        return rows.from_json(kind, found[0]["body"])

    @contextmanager
    def _transaction(self) -> Iterator[_AuditedTransaction]:
        """A transaction; once it is durable, so is the end of the audit in the data folder."""
        with nullcontext(None) if self.anchor is None else self.anchor.write_locked() as held:
            with self.fenced.write_transaction() as (connection, epoch):
                head = _chain_head(connection, None if held is None else held.read())
                writing = _AuditedTransaction(connection, epoch, self.fenced.now(), head)
                yield writing
                self.boundary("ledger.commit")
            self.boundary("ledger.committed")
            if held is not None and writing.head != head:
                _write_anchor(held, writing.head)
            self.boundary("ledger.anchored")


def _write_anchor(held: LockedAnchor, head: Head) -> None:
    """The row is durable already: that the file lags is told and mended by the next write, not undone."""
    try:
        held.write(head)
    except StoreError as error:
        log.error("the end of the audit is not in the data folder", seq=head[0], why=str(error))


def _chain_head(connection: Connection, anchored: Head | None) -> Head:
    """What the next row follows: the furthest end that is remembered, after the furthest row.

    Where rows were cut off, replaced or put in past us, the next one leaves a break that stays.
    """
    remembered = [head for head in (anchored, _stored_head(connection)) if head is not None]
    seq, digest = max(remembered, key=lambda head: head[0], default=START)
    last = connection.scalar(sa.select(sa.func.max(tables.audit.c.seq)))
    return max(seq, last or 0), digest


def _stored_head(connection: Connection) -> Head | None:
    body = _stored_value(connection, _HEAD)
    if body is None:
        return None
    return rows.parse_head(body)


def _stored_value(connection: Connection, name: str) -> str | None:
    m = tables.memory.c
    return connection.scalar(sa.select(m.body).where(m.name == name))


def _stored_silences(connection: Connection) -> list[Silence]:
    body = _stored_value(connection, _SILENCES)
    return [] if body is None else list(rows.from_json(tuple[Silence, ...], body))


def _stored_state(connection: Connection, table: sa.Table, noun_id: str) -> str | None:
    return connection.scalar(sa.select(table.c.state).where(table.c.id == noun_id))
