"""A real store in a folder, for tests that look at what is kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE


@contextmanager
def open_ledger(folder: Path, now: Callable[[], int] = time.time_ns) -> Iterator[ActionLedger]:
    """The ledger of a store there, as the engine holds it."""
    store = open_store(folder, now)
    yield ActionLedger(store.fenced, folder / ANCHOR_FILE)
    store.close()
