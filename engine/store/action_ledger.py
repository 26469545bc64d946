"""SQL ledger of recommendations, actions, pause and silences; each change commits with its audit row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from trimtab.engine.audit.hash_chain import CHAIN_START, Head, append_to_chain
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
"""How long an ended silence stays listed. Its audit rows are never deleted."""


@dataclass(slots=True)
class _AuditedTransaction:
    """An open transaction and the head of the audit chain inside it."""

    connection: Connection
    epoch: int
    now: int
    head: Head

    def save(self, table: sa.Table, row: dict[str, Any]) -> None:
        upsert(self.connection, table, [{**row, "epoch": self.epoch}])

    def save_value(self, name: str, value: object) -> None:
        self.save(tables.memory, {"name": name, "body": rows.to_json(value)})

    def append_audit(self, what: str, subject: str, actor: str, details: dict[str, Value]) -> AuditRow:
        redacted = rows.redact_audit_details(details)
        row = AuditRow(
            0, self.now, redact_text(actor), what, redact_text(subject), redacted, epoch=self.epoch
        )
        row = append_to_chain(row, self.head)
        self.connection.execute(sa.insert(tables.audit), [rows.audit_to_row(row)])
        self.head = (row.seq, row.hash)
        self.save_value(_HEAD, self.head)
        return row


class ActionLedger:
    """Implementation of the Ledger port on a SQL database.

    fenced   : the database, with the epoch of the engine's lease or without one
    anchor   : path of the audit anchor file in the data folder; None = only the database stores the head
    boundary : called with the name of each step between which a crash can happen (used by tests)
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
        """Insert, or update by id if the stored state is `expected` (None = any). Raises ConflictError."""
        redacted = rows.redact_recommendation(recommendation)
        with self._transaction() as transaction:
            stored = _stored_state(transaction.connection, tables.recommendations, redacted.id)
            if expected is not None and stored != expected:
                raise ConflictError(
                    f"recommendation {redacted.id} is {stored or 'not stored'}, expected {expected}: "
                    "it was changed concurrently; reload it and try again"
                )
            transaction.save(tables.recommendations, rows.recommendation_row(redacted))
            details: dict[str, Value] = {
                "from": stored, "to": str(redacted.state), "tool": redacted.tool, "target": redacted.target,
                "change": redacted.subject, "before": redacted.before, "after": redacted.after,
                "reason": redacted.reason,
            }  # fmt: skip
            transaction.append_audit(audit, redacted.id, actor, details)

    def recommendation(self, recommendation_id: str) -> Recommendation:
        """Return one by id. Raises NotFoundError."""
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
        """List matching recommendations, newest first by id; `after` is the last id of the previous page."""
        r = tables.recommendations.c
        equal = {r.state: state, r.incident_id: incident_id, r.tool: tool, r.target: target}
        conditions = [column == value for column, value in equal.items() if value is not None]
        if after is not None:
            conditions.append(r.id < after)
        query = sa.select(r.body).where(*conditions).order_by(r.id.desc()).limit(limit)
        return [rows.from_json(Recommendation, row["body"]) for row in self.fenced.fetch_rows(query)]

    def propose(self, action: Action, audit: str, actor: str) -> Action:
        """Insert an action; if its idempotency key exists, return the stored action and write nothing."""
        redacted = rows.redact_action(action)
        a = tables.actions.c
        with self._transaction() as transaction:
            body = transaction.connection.scalar(sa.select(a.body).where(a.idempotency_key == redacted.key))
            if body is not None:
                return rows.from_json(Action, body)
            row = {**rows.action_row(redacted), "epoch": transaction.epoch}
            transaction.connection.execute(sa.insert(tables.actions), [row])
            transaction.append_audit(
                audit, redacted.id, actor, {"to": str(redacted.state), **rows.action_details(redacted)}
            )
        return redacted

    def transition(
        self,
        action: Action,
        expected: ActionState,
        audit: str,
        actor: str,
        details: dict[str, Value] | None = None,
    ) -> Action:
        """Update an action if its stored state is `expected`. Raises ConflictError, NotFoundError."""
        redacted = rows.redact_action(action)
        with self._transaction() as transaction:
            stored = _stored_state(transaction.connection, tables.actions, redacted.id)
            if stored is None:
                raise NotFoundError(f"no action has the id {redacted.id!r}")
            if stored != expected:
                raise ConflictError(
                    f"action {redacted.id} is {stored}, expected {expected}: it was changed concurrently"
                )
            transaction.save(tables.actions, rows.action_row(redacted))
            states: dict[str, Value] = {"from": stored, "to": str(redacted.state)}
            transaction.append_audit(
                audit, redacted.id, actor, {**states, **rows.action_details(redacted), **(details or {})}
            )
        return redacted

    def action(self, action_id: str) -> Action:
        """Return one by id. Raises NotFoundError."""
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
        """List matching actions, newest first by id; `since` (int64 ns) is compared with `created`."""
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
        """Append an audit row that belongs to no recommendation or action change."""
        with self._transaction() as writing:
            return writing.append_audit(what, subject, actor, details or {})

    def audit_rows(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> list[AuditRow]:
        """List audit rows with `seq` > `after`, oldest first."""
        a = tables.audit.c
        conditions = [a.seq > after] + ([] if subject is None else [a.subject == subject])
        query = sa.select(tables.audit).where(*conditions).order_by(a.seq).limit(limit)
        return [rows.audit_from_row(row) for row in self.fenced.fetch_rows(query)]

    def audit_heads(self) -> AuditHeads:
        """Return the audit heads of the database and the anchor file, read while no process writes."""
        folder = nullcontext(None) if self.anchor is None else self.anchor.read_locked()
        with folder as anchored, self.fenced.database.read_transaction() as connection:
            store = _stored_head(connection)
            return AuditHeads(store, store if self.anchor is None else anchored)

    def pause(self) -> Pause:
        """Return the stored pause; not paused if none is stored."""
        with self.fenced.database.read_transaction() as connection:
            body = _stored_value(connection, _PAUSE)
        return rows.NOT_PAUSED if body is None else rows.from_json(Pause, body)

    def set_pause(self, pause: Pause) -> None:
        """Store the pause and its audit row."""
        with self._transaction() as transaction:
            transaction.save_value(_PAUSE, pause)
            transaction.append_audit(
                "paused" if pause.on else "resumed",
                _PAUSE,
                pause.by,
                {"on": pause.on, "reason": pause.reason},
            )

    def silences(self) -> list[Silence]:
        """List the silences set by operators, newest first, including recently ended ones."""
        with self.fenced.database.read_transaction() as connection:
            return _stored_silences(connection)

    def add_silence(self, silence: Silence) -> None:
        """Store a silence and its audit row."""
        redacted = replace(silence, note=redact_text(silence.note))
        with self._transaction() as transaction:
            silences = _stored_silences(transaction.connection)
            kept = [
                silence_kept
                for silence_kept in silences
                if silence_kept.until > transaction.now - ENDED_SILENCE_RETENTION_NS
            ]
            transaction.save_value(_SILENCES, (redacted, *kept))
            transaction.append_audit("silenced", redacted.id, redacted.by, rows.silence_details(redacted))

    def end_silence(self, silence_id: str, by: str) -> Silence:
        """End a silence now and append an audit row. Raises NotFoundError; ConflictError if it has ended."""
        with self._transaction() as transaction:
            silences = {silence.id: silence for silence in _stored_silences(transaction.connection)}
            silence = silences.get(silence_id)
            if silence is None:
                raise NotFoundError(
                    f"no silence has the id {silence_id!r}; list them with `trimtab silence list`"
                )
            if silence.until <= transaction.now:
                raise ConflictError(f"silence {silence_id} has already ended")
            ended = replace(silence, begin=min(silence.begin, transaction.now), until=transaction.now)
            transaction.save_value(_SILENCES, tuple({**silences, silence_id: ended}.values()))
            transaction.append_audit("silence ended", silence_id, by, rows.silence_details(ended))
        return ended

    def _by_id(self, kind: type[T], table: sa.Table, item_id: str) -> T:
        rows_found = self.fenced.fetch_rows(sa.select(table.c.body).where(table.c.id == item_id))
        if not rows_found:
            raise NotFoundError(f"no {kind.__name__.lower()} has the id {item_id!r}")
        return rows.from_json(kind, rows_found[0]["body"])

    @contextmanager
    def _transaction(self) -> Iterator[_AuditedTransaction]:
        """Open a transaction; after the commit, write the new audit head to the anchor file."""
        with nullcontext(None) if self.anchor is None else self.anchor.write_locked() as locked_anchor:
            with self.fenced.write_transaction() as (connection, epoch):
                head = _chain_head(connection, None if locked_anchor is None else locked_anchor.read())
                transaction = _AuditedTransaction(connection, epoch, self.fenced.now(), head)
                yield transaction
                self.boundary("ledger.commit")
            self.boundary("ledger.committed")
            if locked_anchor is not None and transaction.head != head:
                _write_anchor(locked_anchor, transaction.head)
            self.boundary("ledger.anchored")


def _write_anchor(locked_anchor: LockedAnchor, head: Head) -> None:
    """Write the head to the anchor file. A failure is only logged: the next write repairs the file."""
    try:
        locked_anchor.write(head)
    except StoreError as error:
        log.error("audit_anchor_write_failed", seq=head[0], error=str(error))


def _chain_head(connection: Connection, anchored: Head | None) -> Head:
    """Return the head that the next audit row follows: the newest known head, numbered after the last row.

    If rows were deleted, replaced or inserted outside the ledger, the next row leaves a permanent break
    in the chain, which verification reports.
    """
    remembered = [head for head in (anchored, _stored_head(connection)) if head is not None]
    seq, digest = max(remembered, key=lambda head: head[0], default=CHAIN_START)
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


def _stored_state(connection: Connection, table: sa.Table, item_id: str) -> str | None:
    return connection.scalar(sa.select(table.c.state).where(table.c.id == item_id))
