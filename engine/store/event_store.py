"""Durable events: series, anomalies, feedback, keys, answers to POSTs. A write that returned stays."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from trimtab.engine.errors import NotFoundError, StoreError
from trimtab.engine.store import event_rows, tables
from trimtab.engine.store.database import Database
from trimtab.engine.store.fenced_writes import FencedDatabase, batches, upsert
from trimtab.engine.types import Anomaly, ApiKey, Feedback, SeriesInfo

RESPONSE_RETENTION_NS = 86_400 * 1_000_000_000


class EventStore:
    """The port Store over a SQL database; see `trimtab.engine.store.open_store`.

    url     : sqlite:////folder/trimtab.db or postgresql://user@host/name
    now     : nanoseconds UTC
    epoch   : of the lease that its writes are made under; `open` takes the store over from every
              smaller one. None = beside the engine (a command, an API process): writes carry
              whatever epoch holds
    let_go  : called when it is closed, as to release the lease
    """

    def __init__(
        self,
        url: str | URL,
        now: Callable[[], int],
        epoch: int | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.fenced = FencedDatabase(url, now, epoch)
        self.now = now
        self.on_close = on_close

    @property
    def database(self) -> Database:
        """Where it all is."""
        return self.fenced.database

    @property
    def epoch(self) -> int | None:
        """Of the lease that its writes are made under."""
        return self.fenced.epoch

    def open(self) -> "EventStore":
        """Migrate, look for damage, take the epoch.

        Raises NewerStateError, LockedError where a newer epoch holds, StoreError.
        """
        try:
            self.database.migrate(self.now())
            self.database.check_integrity()
            self.fenced.take_over()
        except BaseException:
            self.database.close()
            raise
        return self

    def highest_epoch(self) -> int:
        """The newest epoch that wrote here; 0 = none, or no tables yet."""
        if self.database.revision() is None:
            return 0
        with self.database.read_transaction() as connection:
            return connection.scalar(sa.select(tables.lease.c.epoch)) or 0

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Remember series, by id; those that did not change are not written."""
        fresh = {row["id"]: row for row in map(event_rows.series_row, infos)}
        stored = self._stored_series(list(fresh))
        changed = [row for key, row in fresh.items() if row != stored.get(key)]
        if changed:
            self.fenced.save_rows(tables.series, changed)

    def series(self, series_id: str) -> SeriesInfo:
        """A series that was ever seen. Raises NotFoundError."""
        found = self.fenced.fetch_rows(sa.select(tables.series).where(tables.series.c.id == series_id))
        if not found:
            raise NotFoundError(f"there is no series {series_id!r}")
        return event_rows.series_from_row(found[0])

    def all_series(self) -> list[SeriesInfo]:
        """All that were ever seen and not forgotten."""
        return [event_rows.series_from_row(row) for row in self.fenced.fetch_rows(sa.select(tables.series))]

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update by id."""
        self.save_anomalies([anomaly])

    def save_anomalies(self, anomalies: Iterable[Anomaly]) -> None:
        """Insert or update several in one transaction: all are kept, or none."""
        wanted = [event_rows.anomaly_row(anomaly) for anomaly in anomalies]
        if wanted:
            self.fenced.save_rows(tables.anomalies, wanted)

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Raises NotFoundError."""
        found = self.fenced.fetch_rows(sa.select(tables.anomalies).where(tables.anomalies.c.id == anomaly_id))
        if not found:
            raise NotFoundError(f"there is no anomaly {anomaly_id!r}")
        return event_rows.anomaly_from_row(found[0])

    def anomalies(
        self,
        *,
        series_id: str | None = None,
        source: str | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        min_score: float | None = None,
        direction: str | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Anomaly]:
        """Newest first by id; `after` is the last id of the page before; see the port."""
        a = tables.anomalies.c
        conditions = [a.series_lower.contains(w, autoescape=True) for w in (search or "").lower().split()]
        if series_id is not None:
            conditions.append(a.series_id == series_id)
        if source is not None:
            conditions.append(a.source == source)
        if open_only:
            conditions.append(a.end_ns.is_(None))
        if since is not None:
            conditions.append(sa.or_(a.end_ns.is_(None), a.end_ns >= since))
        if until is not None:
            conditions.append(a.start_ns < until)
        if min_score is not None:
            conditions.append(a.score >= min_score)
        if direction is not None:
            conditions.append(a.direction == direction)
        if after is not None:
            conditions.append(a.id < after)
        query = sa.select(tables.anomalies).where(*conditions).order_by(a.id.desc()).limit(limit)
        return [event_rows.anomaly_from_row(row) for row in self.fenced.fetch_rows(query)]

    def save_feedback(self, feedback: Feedback) -> None:
        """One word per anomaly and author; a later one replaces it. Raises NotFoundError."""
        known = sa.select(tables.anomalies.c.id).where(tables.anomalies.c.id == feedback.anomaly_id)
        with self.fenced.write_transaction() as (connection, epoch):
            if connection.scalar(known) is None:
                raise NotFoundError(f"there is no anomaly {feedback.anomaly_id!r}")
            upsert(connection, tables.feedback, [{**event_rows.feedback_row(feedback), "epoch": epoch}])

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """Oldest first."""
        f = tables.feedback.c
        query = sa.select(tables.feedback).where(f.anomaly_id == anomaly_id).order_by(f.time_ns, f.author)
        return [event_rows.feedback_from_row(row) for row in self.fenced.fetch_rows(query)]

    def save_key(self, key: ApiKey) -> None:
        """Insert or update by id."""
        self.fenced.save_rows(tables.api_keys, [event_rows.api_key_row(key)])

    def keys(self) -> list[ApiKey]:
        """All, oldest first, revoked and expired ones too."""
        k = tables.api_keys.c
        return [
            event_rows.api_key_from_row(row)
            for row in self.fenced.fetch_rows(sa.select(tables.api_keys).order_by(k.created_ns, k.id))
        ]

    def stored_response(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Status and body that this POST was answered with within the last day."""
        a = tables.answers.c
        found = self.fenced.fetch_rows(
            sa.select(a.status, a.body).where(
                a.idempotency_key == idempotency_key,
                a.route == route,
                a.time_ns > self.now() - RESPONSE_RETENTION_NS,
            )
        )
        return (found[0]["status"], bytes(found[0]["body"])) if found else None

    def save_response(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Keep the answer to a POST, and forget those older than a day."""
        row = {
            "idempotency_key": idempotency_key, "route": route,
            "status": status, "body": body, "time_ns": now,
        }  # fmt: skip
        with self.fenced.write_transaction() as (connection, epoch):
            connection.execute(
                sa.delete(tables.answers).where(tables.answers.c.time_ns <= now - RESPONSE_RETENTION_NS)
            )
            upsert(connection, tables.answers, [{**row, "epoch": epoch}])

    def delete_ended(self, before: int, limit: int) -> int:
        """Remove ended anomalies with what was said of them, incidents and changes; see the port."""
        ends = (tables.anomalies.c.end_ns, tables.incidents.c.end_ns, tables.changes.c.time_ns)
        with self.fenced.write_transaction() as (connection, _):
            return sum(_delete_oldest(connection, end.table, end < before, end, limit) for end in ends)

    def delete_keys(self, prefixes: Sequence[str], ended_before: int, limit: int) -> int:
        """Remove keys that begin so and died before then; see the port."""
        k = tables.api_keys.c
        begins = sa.or_(*(k.prefix.startswith(prefix, autoescape=True) for prefix in prefixes))
        dead = sa.and_(begins, sa.or_(k.expires_ns < ended_before, k.revoked_ns < ended_before))
        with self.fenced.write_transaction() as (connection, _):
            return _delete_oldest(connection, tables.api_keys, dead, k.created_ns, limit)

    def health_problem(self) -> str | None:
        """None, or what is wrong: a lost epoch, a missing file, a write that failed and still fails."""
        path = self.database.sqlite_path
        if path is not None and not path.exists():
            return f"{path} is gone: restore it, and start again"
        try:
            if self.fenced.write_error is None:
                with self.database.read_transaction() as connection:
                    self.fenced.check_epoch(connection)
            else:
                with self.fenced.write_transaction() as (connection, epoch):
                    connection.execute(sa.update(tables.lease).values(epoch=epoch))
        except StoreError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Let go; the last connection folds SQLite's log into its file."""
        self.database.close()
        if self.on_close is not None:
            self.on_close()

    def _stored_series(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = [column for column in tables.series.c if column.name != "epoch"]
        found: dict[str, dict[str, Any]] = {}
        for some in batches(ids):
            query = sa.select(*columns).where(tables.series.c.id.in_(some))
            found.update((row["id"], row) for row in self.fenced.fetch_rows(query))
        return found


def _delete_oldest(
    connection: Connection,
    table: sa.Table,
    which: sa.ColumnElement[bool],
    oldest_first: sa.ColumnElement[int],
    limit: int,
) -> int:
    """Delete at most `limit` rows; how many."""
    chosen = sa.select(table.c.id).where(which).order_by(oldest_first, table.c.id).limit(limit)
    ids = connection.scalars(chosen).all()
    for some in batches(ids):
        if table is tables.anomalies:
            connection.execute(sa.delete(tables.feedback).where(tables.feedback.c.anomaly_id.in_(some)))
        connection.execute(sa.delete(table).where(table.c.id.in_(some)))
    return len(ids)
