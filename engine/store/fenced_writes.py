"""Statements under the lease: what an older epoch would write is refused, what returned is durable."""

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
"""Ids in one IN list; SQLite allows 32,766 parameters."""


class FencedDatabase:
    """A database whose writes carry the epoch of the engine's lease; shared by the stores of one engine.

    url   : sqlite:////folder/trimtab.db or postgresql://user@host/name
    now   : nanoseconds UTC
    epoch : None = beside the engine (a command, an API process): writes carry whatever epoch holds
    """

    def __init__(self, url: str | URL, now: Callable[[], int], epoch: int | None = None) -> None:
        self.database = Database(url)
        self.now = now
        self.epoch = epoch
        self.write_error: str | None = None
        """Why the newest write failed; None = it did not."""

    def take_over(self) -> None:
        """Take the store over from every smaller epoch. Raises LockedError where a newer one holds."""
        if self.epoch is None:
            return
        lease, epoch, holder = tables.lease, self.epoch, process_label()
        mine = sa.and_(lease.c.epoch == epoch, lease.c.holder == holder)
        taking = sa.update(lease).where(sa.or_(lease.c.epoch < epoch, mine))
        with self.database.write_transaction() as connection:
            if connection.execute(taking.values(epoch=epoch, holder=holder)).rowcount == 1:
                return
            stored = connection.execute(sa.select(lease)).mappings().one()
        raise LockedError(
            f"{self.database} is held by {stored['holder']} under epoch {stored['epoch']}, "
            f"this engine has epoch {epoch}: stop that engine, or start this one again to take over"
        )

    def check_epoch(self, connection: Connection) -> None:
        """Raises LockedError where another engine took over."""
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
        """A transaction and its epoch; durable when the block ends, undone when it raises."""
        try:
            with self.database.write_transaction() as connection:
                # The row is locked to the end of the transaction, so that nobody takes over within it.
                stored = connection.scalar(sa.select(tables.lease.c.epoch).with_for_update())
                yield connection, self._verified_epoch(stored)
        except StoreError as error:
            self.write_error = str(error)
            raise
        self.write_error = None

    def save_rows(self, table: sa.Table, wanted: Sequence[dict[str, Any]]) -> None:
        """Insert or update rows by primary key, all or none."""
        with self.write_transaction() as (connection, epoch):
            upsert(connection, table, [{**row, "epoch": epoch} for row in wanted])

    def fetch_rows(self, query: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a select of any columns
        """What a query finds, each row by column name."""
        with self.database.read_transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parts small enough for one IN list."""
    for first in range(0, len(items), _BATCH_SIZE):
        yield items[first : first + _BATCH_SIZE]


def upsert(connection: Connection, table: sa.Table, wanted: Sequence[dict[str, Any]]) -> None:
    """Update the rows whose primary key is there, insert the others; of one key the last row counts.

    Two plain statements, not ON CONFLICT, which every dialect spells in its own way; writers are
    serialised by the lease row (PostgreSQL) or the file's lock (SQLite), so none comes between.
    """
    names = [column.name for column in table.primary_key.columns]
    by_key = {tuple(row[name] for name in names): row for row in wanted}
    there = _existing_keys(connection, table, names, by_key)
    new = [row for key, row in by_key.items() if key not in there]
    old = [row for key, row in by_key.items() if key in there]
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
    found: set[tuple[Any, ...]] = set()
    for some in batches(list({key[0] for key in keys})):
        rows_there = connection.execute(sa.select(*columns).where(columns[0].in_(some)))
        found.update(tuple(row) for row in rows_there)
    return found
