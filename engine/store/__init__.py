"""Durable storage: events in SQL, scores in Parquet, scoring state in snapshots.

A data folder contains `trimtab.lock` and `epoch` (the lease), `trimtab.db` (events), and separate
folders for scores and snapshots. Heavy libraries are imported on first use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from trimtab.engine.store.event_store import EventStore

DATABASE_FILE = "trimtab.db"


def open_store(url_or_data_dir: str | Path, now: Callable[[], int]) -> "EventStore":
    """Acquire the lease and open the event store for the engine. Close it after everything that uses it.

    url_or_data_dir : data folder (which contains the SQLite file), or database URL
    now             : returns the current time, int64 ns UTC

    Raises LockedError if another engine holds the lease, NewerStateError if a newer Trimtab wrote the
    store (nothing is changed), StoreError if the disk or the database server fails.
    """
    from trimtab.engine.store.event_store import EventStore
    from trimtab.engine.store.lease import FolderLease

    url = store_url(url_or_data_dir)
    probe = EventStore(url, now)
    try:
        beyond, path = probe.highest_epoch(), probe.database.sqlite_path
    finally:
        probe.close()
    if path is None:
        return EventStore(url, now, epoch=beyond + 1).open()
    lease = FolderLease(path.parent, now)
    epoch = lease.acquire(beyond)
    try:
        return EventStore(url, now, epoch, on_close=lease.release).open()
    except BaseException:
        lease.release()
        raise


def join_store(url_or_data_dir: str | Path, now: Callable[[], int]) -> "EventStore":
    """Open the event store without taking the lease, for commands and API processes.

    An engine may be running on the same store. Missing or outdated tables are migrated only while no
    engine runs. Raises LockedError, NewerStateError, StoreError.
    """
    from trimtab.engine.store.database import REVISIONS
    from trimtab.engine.store.event_store import EventStore

    url = store_url(url_or_data_dir)
    store = EventStore(url, now)
    if store.database.revision() != REVISIONS[-1]:
        store.close()
        open_store(url_or_data_dir, now).close()
    return store


def store_url(url_or_data_dir: str | Path) -> "URL":
    """Return the database URL of a data folder; a URL is returned parsed.

    >>> str(store_url("/var/lib/trimtab"))
    'sqlite:////var/lib/trimtab/trimtab.db'
    """
    from sqlalchemy.engine import URL

    from trimtab.engine.store.database import parse_url

    if isinstance(url_or_data_dir, str) and "://" in url_or_data_dir:
        return parse_url(url_or_data_dir)
    return URL.create("sqlite", database=str((Path(url_or_data_dir).expanduser() / DATABASE_FILE).absolute()))
