"""SQL event store: series, anomalies, feedback, API keys, and responses to idempotent POSTs."""

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
    """Implementation of the Store port on a SQL database; see `trimtab.engine.store.open_store`.

    A write is durable when the method returns.

    url      : sqlite:////folder/trimtab.db or postgresql://user@host/name
    now      : returns the current time, int64 ns UTC
    epoch    : epoch of the engine's lease; `open` takes the store over from every smaller epoch.
               None = not the engine (a command, an API process): writes carry the stored epoch
    on_close : called by `close`, for example to release the lease
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
        """The database without the epoch check."""
        return self.fenced.database

    @property
    def epoch(self) -> int | None:
        """Epoch of the lease under which this store writes; None if it holds no lease."""
        return self.fenced.epoch

    def open(self) -> "EventStore":
        """Migrate the tables, check them for damage, and take the store over.

        Raises NewerStateError, LockedError if a newer epoch is stored, StoreError.
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
        """Return the newest stored epoch; 0 if there is none."""
        if self.database.revision() is None:
            return 0
        with self.database.read_transaction() as connection:
            return connection.scalar(sa.select(tables.lease.c.epoch)) or 0

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Insert or update series by id; unchanged ones are not written."""
        fresh = {row["id"]: row for row in map(event_rows.series_row, infos)}
        stored = self._stored_series(list(fresh))
        changed = [row for key, row in fresh.items() if row != stored.get(key)]
        if changed:
            self.fenced.save_rows(tables.series, changed)

    def series(self, series_id: str) -> SeriesInfo:
        """Return a stored series. Raises NotFoundError."""
        rows = self.fenced.fetch_rows(sa.select(tables.series).where(tables.series.c.id == series_id))
        if not rows:
            raise NotFoundError(f"no series has the id {series_id!r}")
        return event_rows.series_from_row(rows[0])

    def all_series(self) -> list[SeriesInfo]:
        """Return every stored series, in no particular order."""
        return [event_rows.series_from_row(row) for row in self.fenced.fetch_rows(sa.select(tables.series))]

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update one row by id."""
        self.save_anomalies([anomaly])

    def save_anomalies(self, anomalies: Iterable[Anomaly]) -> None:
        """Insert or update several anomalies in one transaction: all or none."""
        rows = [event_rows.anomaly_row(anomaly) for anomaly in anomalies]
        if rows:
            self.fenced.save_rows(tables.anomalies, rows)

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Return one anomaly by id. Raises NotFoundError."""
        rows = self.fenced.fetch_rows(sa.select(tables.anomalies).where(tables.anomalies.c.id == anomaly_id))
        if not rows:
            raise NotFoundError(f"no anomaly has the id {anomaly_id!r}")
        return event_rows.anomaly_from_row(rows[0])

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
        """List matching anomalies, newest first by id; `after` is the last id of the previous page."""
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
        """Store one feedback per anomaly and author; a later one replaces it. Raises NotFoundError."""
        anomaly_query = sa.select(tables.anomalies.c.id).where(tables.anomalies.c.id == feedback.anomaly_id)
        with self.fenced.write_transaction() as (connection, epoch):
            if connection.scalar(anomaly_query) is None:
                raise NotFoundError(f"no anomaly has the id {feedback.anomaly_id!r}")
            upsert(connection, tables.feedback, [{**event_rows.feedback_row(feedback), "epoch": epoch}])

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """List the feedback on an anomaly, oldest first."""
        f = tables.feedback.c
        query = sa.select(tables.feedback).where(f.anomaly_id == anomaly_id).order_by(f.time_ns, f.author)
        return [event_rows.feedback_from_row(row) for row in self.fenced.fetch_rows(query)]

    def save_key(self, key: ApiKey) -> None:
        """Insert or update one row by id."""
        self.fenced.save_rows(tables.api_keys, [event_rows.api_key_row(key)])

    def keys(self) -> list[ApiKey]:
        """List all API keys, oldest first, including revoked and expired ones."""
        k = tables.api_keys.c
        return [
            event_rows.api_key_from_row(row)
            for row in self.fenced.fetch_rows(sa.select(tables.api_keys).order_by(k.created_ns, k.id))
        ]

    def stored_response(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Return status and body of the response to this POST within the last day; None if there is none."""
        a = tables.answers.c
        rows = self.fenced.fetch_rows(
            sa.select(a.status, a.body).where(
                a.idempotency_key == idempotency_key,
                a.route == route,
                a.time_ns > self.now() - RESPONSE_RETENTION_NS,
            )
        )
        return (rows[0]["status"], bytes(rows[0]["body"])) if rows else None

    def save_response(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Store the response to a POST, and delete responses older than a day. `now` is int64 ns UTC."""
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
        """Delete anomalies (with feedback), incidents and changes that ended before `before`, int64 ns."""
        ends = (tables.anomalies.c.end_ns, tables.incidents.c.end_ns, tables.changes.c.time_ns)
        with self.fenced.write_transaction() as (connection, _):
            return sum(_delete_oldest(connection, end.table, end < before, end, limit) for end in ends)

    def delete_keys(self, prefixes: Sequence[str], ended_before: int, limit: int) -> int:
        """Delete keys with one of these prefixes that expired or were revoked before that time, int64 ns."""
        k = tables.api_keys.c
        begins = sa.or_(*(k.prefix.startswith(prefix, autoescape=True) for prefix in prefixes))
        dead = sa.and_(begins, sa.or_(k.expires_ns < ended_before, k.revoked_ns < ended_before))
        with self.fenced.write_transaction() as (connection, _):
            return _delete_oldest(connection, tables.api_keys, dead, k.created_ns, limit)

    def health_problem(self) -> str | None:
        """Return None, or the problem: a lost epoch, a missing file, or a write that still fails."""
        path = self.database.sqlite_path
        if path is not None and not path.exists():
            return f"{path} no longer exists: restore it and restart"
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
        """Close all connections; the last one merges SQLite's write-ahead log into the file."""
        self.database.close()
        if self.on_close is not None:
            self.on_close()

    def _stored_series(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = [column for column in tables.series.c if column.name != "epoch"]
        rows_by_id: dict[str, dict[str, Any]] = {}
        for batch in batches(ids):
            query = sa.select(*columns).where(tables.series.c.id.in_(batch))
            rows_by_id.update((row["id"], row) for row in self.fenced.fetch_rows(query))
        return rows_by_id


def _delete_oldest(
    connection: Connection,
    table: sa.Table,
    which: sa.ColumnElement[bool],
    oldest_first: sa.ColumnElement[int],
    limit: int,
) -> int:
    """Delete at most `limit` matching rows, oldest first, and return how many were deleted."""
    chosen = sa.select(table.c.id).where(which).order_by(oldest_first, table.c.id).limit(limit)
    ids = connection.scalars(chosen).all()
    for batch in batches(ids):
        if table is tables.anomalies:
            connection.execute(sa.delete(tables.feedback).where(tables.feedback.c.anomaly_id.in_(batch)))
        connection.execute(sa.delete(table).where(table.c.id.in_(batch)))
    return len(ids)
