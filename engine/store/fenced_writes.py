"""Fenced writes: a write under an outdated lease epoch is refused."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from trimtab.engine.errors import LockedError, StoreError
from trimtab.engine.store import tables
from trimtab.engine.store.database import Database
from trimtab.engine.store.durable_files import process_label

T = TypeVar("T")
_BATCH_SIZE = 500
"""Values in one IN list; SQLite allows 32,766 parameters."""


class FencedDatabase:
    """A database whose writes carry the epoch of the engine's lease; shared by all stores of one engine.

    url   : sqlite:////folder/trimtab.db or postgresql://user@host/name
    now   : returns the current time, int64 ns UTC
    epoch : epoch of the lease; None = not the engine (a command, an API process): writes carry the
            stored epoch
    """

    def __init__(self, url: str | URL, now: Callable[[], int], epoch: int | None = None) -> None:
        self.database = Database(url)
        self.now = now
        self.epoch = epoch
        self.write_error: str | None = None
        """Error of the newest write; None if it succeeded."""

    def take_over(self) -> None:
        """Store this epoch if the stored one is smaller. Raises LockedError if a newer epoch is stored."""
        if self.epoch is None:
            return
        lease, epoch, holder = tables.lease, self.epoch, process_label()
        is_own = sa.and_(lease.c.epoch == epoch, lease.c.holder == holder)
        statement = sa.update(lease).where(sa.or_(lease.c.epoch < epoch, is_own))
        with self.database.write_transaction() as connection:
            if connection.execute(statement.values(epoch=epoch, holder=holder)).rowcount == 1:
                return
            stored = connection.execute(sa.select(lease)).mappings().one()
        raise LockedError(
            f"{self.database} is held by {stored['holder']} with epoch {stored['epoch']}, "
            f"this engine has epoch {epoch}: stop that engine, or restart this one to take over"
        )

    def check_epoch(self, connection: Connection) -> None:
        """Raise LockedError if another engine has taken over."""
        self._verified_epoch(connection.scalar(sa.select(tables.lease.c.epoch)))

    def _verified_epoch(self, stored: int | None) -> int:
        if self.epoch is not None and stored != self.epoch:
            raise LockedError(
                f"{self.database} was taken over by another engine (epoch {stored}, this engine has "
                f"{self.epoch}): nothing was written; stop this engine"
            )
        return stored or 0

    @contextmanager
    def write_transaction(self) -> Iterator[tuple[Connection, int]]:
        """Yield a transaction and its epoch: durable when the block ends, rolled back if it raises."""
        try:
            with self.database.write_transaction() as connection:
                # The row stays locked until the commit, so that no engine takes over during the transaction.
                stored = connection.scalar(sa.select(tables.lease.c.epoch).with_for_update())
                yield connection, self._verified_epoch(stored)
        except StoreError as error:
            self.write_error = str(error)
            raise
        self.write_error = None

    def save_rows(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert or update rows by primary key, all or none."""
        with self.write_transaction() as (connection, epoch):
            upsert(connection, table, [{**row, "epoch": epoch} for row in rows])

    def fetch_rows(self, query: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a select of any columns
        """Return the rows of a query as dicts by column name."""
        with self.database.read_transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split a sequence into parts small enough for one IN list."""
    for first in range(0, len(items), _BATCH_SIZE):
        yield items[first : first + _BATCH_SIZE]


def upsert(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Update the rows whose primary key exists and insert the others; for a repeated key the last row wins.

    Two plain statements instead of ON CONFLICT, whose syntax differs between dialects. Writers are
    serialised by the lease row (PostgreSQL) or the file lock (SQLite).
    """
    names = [column.name for column in table.primary_key.columns]
    by_key = {tuple(row[name] for name in names): row for row in rows}
    existing = _existing_keys(connection, table, names, by_key)
    new = [row for key, row in by_key.items() if key not in existing]
    old = [row for key, row in by_key.items() if key in existing]
    if new:
        connection.execute(sa.insert(table), new)
    if old:
        same = sa.and_(*(table.c[name] == sa.bindparam(f"key_{name}") for name in names))
        values: dict[str, Any] = {name: sa.bindparam(name) for name in old[0] if name not in names}
        renamed = [{f"key_{k}" if k in names else k: v for k, v in row.items()} for row in old]
        connection.execute(sa.update(table).where(same).values(values), renamed)


def _existing_keys(
    connection: Connection, table: sa.Table, names: Sequence[str], keys: Iterable[tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
    columns = [table.c[name] for name in names]
    existing: set[tuple[Any, ...]] = set()
    for batch in batches(list({key[0] for key in keys})):
        result = connection.execute(sa.select(*columns).where(columns[0].in_(batch)))
        existing.update(tuple(row) for row in result)
    return existing
