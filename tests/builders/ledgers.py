"""Builder of an action ledger on a real store."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE


@contextmanager
def open_ledger(folder: Path, now: Callable[[], int] = time.time_ns) -> Iterator[ActionLedger]:
    """The ledger of a store in this folder, opened like the engine does."""
    store = open_store(folder, now)
    yield ActionLedger(store.fenced, folder / ANCHOR_FILE)
    store.close()
