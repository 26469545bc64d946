"""What outlives the process: events in SQL, scores in Parquet, the state of scoring in snapshots.

A data folder holds `trimtab.lock` and `epoch` (the lease), `trimtab.db` (events), and what the
scores and snapshots keep in folders of their own. Heavy libraries are imported on first use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from trimtab.engine.store.event_store import EventStore

DATABASE_FILE = "trimtab.db"


def open_store(url_or_data_dir: str | Path, now: Callable[[], int]) -> "EventStore":
    """Take the lease and open the event store of the one engine that acts; close it last of all.

    url_or_data_dir : a data folder (SQLite in it), or the URL of a database
    now             : nanoseconds UTC

    Raises LockedError where another engine works there, NewerStateError where a newer Trimtab
    did (nothing is changed), StoreError where disk or server refuse.
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
    """Open the event store beside an engine that may run: for commands and API processes.

    Tables that are missing or old are brought up to date only while no engine runs.
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
    """The database URL of a data folder; a URL stays as it is.

    >>> str(store_url("/var/lib/trimtab"))
    'sqlite:////var/lib/trimtab/trimtab.db'
    """
    from sqlalchemy.engine import URL

    from trimtab.engine.store.database import parse_url

    if isinstance(url_or_data_dir, str) and "://" in url_or_data_dir:
        return parse_url(url_or_data_dir)
    return URL.create("sqlite", database=str((Path(url_or_data_dir).expanduser() / DATABASE_FILE).absolute()))
