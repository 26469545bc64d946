"""Durable events: series, anomalies, feedback, keys, answers to POSTs. A write that returned stays."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from trimtab.engine.errors import LockedError, NotFoundError, StoreError
from trimtab.engine.store import rows, tables
from trimtab.engine.store.database import Database
from trimtab.engine.store.files import this_process
from trimtab.engine.types import Anomaly, ApiKey, Feedback, SeriesInfo

T = TypeVar("T")
ANSWER_KEPT_NS = 86_400 * 1_000_000_000
_BATCH = 500
"""Ids in one IN list; SQLite allows 32,766 parameters."""


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
        let_go: Callable[[], None] | None = None,
    ) -> None:
        self.database = Database(url)
        self.now = now
        self.epoch = epoch
        self.let_go = let_go
        self._failed: str | None = None

    def open(self) -> "EventStore":
        """Migrate, look for damage, take the epoch.

        Raises NewerStateError, LockedError where a newer epoch holds, StoreError.
        """
        try:
            self.database.migrate(self.now())
            self.database.check()
            if self.epoch is not None:
                self._take(self.epoch)
        except BaseException:
            self.database.close()
            raise
        return self

    def highest_epoch(self) -> int:
        """The newest epoch that wrote here; 0 = none, or no tables yet."""
        if self.database.revision() is None:
            return 0
        with self.database.reading() as connection:
            return connection.scalar(sa.select(tables.lease.c.epoch)) or 0

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Remember series, by id; those that did not change are not written."""
        fresh = {row["id"]: row for row in map(rows.series_row, infos)}
        stored = self._stored_series(list(fresh))
        changed = [row for key, row in fresh.items() if row != stored.get(key)]
        if changed:
            self._save(tables.series, changed)

    def series(self, series_id: str) -> SeriesInfo:
        """A series that was ever seen. Raises NotFoundError."""
        found = self._rows(sa.select(tables.series).where(tables.series.c.id == series_id))
        if not found:
            raise NotFoundError(f"there is no series {series_id!r}")
        return rows.series_info(found[0])

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update by id."""
        self.save_anomalies([anomaly])

    def save_anomalies(self, anomalies: Iterable[Anomaly]) -> None:
        """Insert or update several in one transaction: all are kept, or none."""
        wanted = [rows.anomaly_row(anomaly) for anomaly in anomalies]
        if wanted:
            self._save(tables.anomalies, wanted)

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Raises NotFoundError."""
        found = self._rows(sa.select(tables.anomalies).where(tables.anomalies.c.id == anomaly_id))
        if not found:
            raise NotFoundError(f"there is no anomaly {anomaly_id!r}")
        return rows.anomaly(found[0])

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
        return [rows.anomaly(row) for row in self._rows(query)]

    def save_feedback(self, feedback: Feedback) -> None:
        """One word per anomaly and author; a later one replaces it. Raises NotFoundError."""
        known = sa.select(tables.anomalies.c.id).where(tables.anomalies.c.id == feedback.anomaly_id)
        with self._writing() as (connection, epoch):
            if connection.scalar(known) is None:
                raise NotFoundError(f"there is no anomaly {feedback.anomaly_id!r}")
            _upsert(connection, tables.feedback, [{**rows.feedback_row(feedback), "epoch": epoch}])

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """Oldest first."""
        f = tables.feedback.c
        query = sa.select(tables.feedback).where(f.anomaly_id == anomaly_id).order_by(f.time_ns, f.author)
        return [rows.feedback(row) for row in self._rows(query)]

    def save_key(self, key: ApiKey) -> None:
        """Insert or update by id."""
        self._save(tables.api_keys, [rows.key_row(key)])

    def keys(self) -> list[ApiKey]:
        """All, oldest first, revoked and expired ones too."""
        k = tables.api_keys.c
        return [
            rows.api_key(row) for row in self._rows(sa.select(tables.api_keys).order_by(k.created_ns, k.id))
        ]

    def answered(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Status and body that this POST was answered with within the last day."""
        a = tables.answers.c
        found = self._rows(
            sa.select(a.status, a.body).where(
                a.idempotency_key == idempotency_key,
                a.route == route,
                a.time_ns > self.now() - ANSWER_KEPT_NS,
            )
        )
        return (found[0]["status"], bytes(found[0]["body"])) if found else None

    def remember_answer(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Keep the answer to a POST, and forget those older than a day."""
        row = {
            "idempotency_key": idempotency_key, "route": route,
            "status": status, "body": body, "time_ns": now,
        }  # fmt: skip
        with self._writing() as (connection, epoch):
            connection.execute(
                sa.delete(tables.answers).where(tables.answers.c.time_ns <= now - ANSWER_KEPT_NS)
            )
            _upsert(connection, tables.answers, [{**row, "epoch": epoch}])

    def healthy(self) -> str | None:
        """None, or what is wrong: a lost epoch, a missing file, a write that failed and still fails."""
        path = self.database.path
        if path is not None and not path.exists():
            return f"{path} is gone: restore it, and start again"
        try:
            if self._failed is None:
                with self.database.reading() as connection:
                    self._fence(connection.scalar(sa.select(tables.lease.c.epoch)))
            else:
                with self._writing() as (connection, epoch):
                    connection.execute(sa.update(tables.lease).values(epoch=epoch))
        except StoreError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Let go; the last connection folds SQLite's log into its file."""
        self.database.close()
        if self.let_go is not None:
            self.let_go()

    def _take(self, epoch: int) -> None:
        lease, holder = tables.lease, this_process()
        mine = sa.and_(lease.c.epoch == epoch, lease.c.holder == holder)
        taking = sa.update(lease).where(sa.or_(lease.c.epoch < epoch, mine))
        with self.database.writing() as connection:
            if connection.execute(taking.values(epoch=epoch, holder=holder)).rowcount == 1:
                return
            stored = connection.execute(sa.select(lease)).mappings().one()
        raise LockedError(
            f"{self.database} is held by {stored['holder']} under epoch {stored['epoch']}, "
            f"this engine has epoch {epoch}: stop that engine, or start this one again to take over"
        )

    def _fence(self, stored: int | None) -> int:
        if self.epoch is not None and stored != self.epoch:
            raise LockedError(
                f"{self.database} was taken over by another engine (epoch {stored}, this engine has "
                f"{self.epoch}): nothing was written; stop this engine"
            )
        return stored or 0

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, int]]:
        try:
            with self.database.writing() as connection:
                # The row is locked to the end of the transaction, so that nobody takes over within it.
                stored = connection.scalar(sa.select(tables.lease.c.epoch).with_for_update())
                yield connection, self._fence(stored)
        except StoreError as error:
            self._failed = str(error)
            raise
        self._failed = None

    def _save(self, table: sa.Table, wanted: Sequence[dict[str, Any]]) -> None:
        with self._writing() as (connection, epoch):
            _upsert(connection, table, [{**row, "epoch": epoch} for row in wanted])

    def _rows(self, query: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a select of any columns
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _stored_series(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = [column for column in tables.series.c if column.name != "epoch"]
        found: dict[str, dict[str, Any]] = {}
        for some in _batches(ids):
            query = sa.select(*columns).where(tables.series.c.id.in_(some))
            found.update((row["id"], row) for row in self._rows(query))
        return found


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]


def _upsert(connection: Connection, table: sa.Table, wanted: Sequence[dict[str, Any]]) -> None:
    """Update the rows whose primary key is there, insert the others; of one key the last row counts.

    Two plain statements, not ON CONFLICT, which every dialect spells in its own way; writers are
    serialised by the lease row (PostgreSQL) or the file's lock (SQLite), so none comes between.
    """
    names = [column.name for column in table.primary_key.columns]
    by_key = {tuple(row[name] for name in names): row for row in wanted}
    there = _present(connection, table, names, by_key)
    new = [row for key, row in by_key.items() if key not in there]
    old = [row for key, row in by_key.items() if key in there]
    if new:
        connection.execute(sa.insert(table), new)
    if old:
        same = sa.and_(*(table.c[name] == sa.bindparam(f"key_{name}") for name in names))
        values: dict[str, Any] = {name: sa.bindparam(name) for name in old[0] if name not in names}
        renamed = [{f"key_{k}" if k in names else k: v for k, v in row.items()} for row in old]
        connection.execute(sa.update(table).where(same).values(values), renamed)


def _present(
    connection: Connection, table: sa.Table, names: Sequence[str], keys: Iterable[tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
    columns = [table.c[name] for name in names]
    found: set[tuple[Any, ...]] = set()
    for some in _batches(list({key[0] for key in keys})):
        rows_there = connection.execute(sa.select(*columns).where(columns[0].in_(some)))
        found.update(tuple(row) for row in rows_there)
    return found
