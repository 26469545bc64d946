"""A real store in a folder, for tests that look at what is kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import SqlLedger
from trimtab.engine.store.audit_anchor import ANCHOR


@contextmanager
def ledger_in(folder: Path, now: Callable[[], int] = time.time_ns) -> Iterator[SqlLedger]:
    """The ledger of a store there, as the engine holds it."""
    store = open_store(folder, now)
    yield SqlLedger(store.fenced, folder / ANCHOR)
    store.close()
