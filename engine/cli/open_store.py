"""The store of the settings' data folder, for commands that work beside an engine that may run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.engine.cli.options import config_file, overrides_of

if TYPE_CHECKING:
    from trimtab.engine.clock import SystemClock
    from trimtab.engine.settings import Settings
    from trimtab.engine.store.action_ledger import SqlLedger
    from trimtab.engine.store.event_store import EventStore


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command works with."""

    store: "EventStore"
    clock: "SystemClock"
    settings: "Settings"

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.settings.settings.data_dir.expanduser()

    def address(self) -> str:
        """Where the engine on this folder listens; "" = none runs, or it did not say."""
        from trimtab.engine.store.lease import ADDRESS, holder_of

        if holder_of(self.folder) is None:
            return ""
        try:
            return (self.folder / ADDRESS).read_text("utf-8").strip()
        except OSError:
            return ""

    def told_engine(self) -> str:
        """Which engine is meant, in words; where none runs on this folder people have to know that."""
        from trimtab.engine.store.lease import holder_of

        holder = holder_of(self.folder)
        if holder is not None:
            return f"the engine on {self.folder} (process {holder.pid or 'unknown'})"
        return (
            f"no engine runs on {self.folder}; it holds for the next one there. Give --config or --data of "
            "the engine that you mean"
        )

    @property
    def ledger(self) -> "SqlLedger":
        """Recommendations, actions, their audit, the pause."""
        from trimtab.engine.store.action_ledger import SqlLedger
        from trimtab.engine.store.audit_anchor import ANCHOR

        return SqlLedger(self.store.fenced, self.folder / ANCHOR)


@contextmanager
def opened(
    config: Path | None, data: Path | None, host: str | None = None, port: int | None = None
) -> Iterator[Opened]:
    """Open the store, and close it again. Raises SettingsError, StoreError."""
    from trimtab.engine.clock import SystemClock
    from trimtab.engine.settings.settings_file import load_settings
    from trimtab.engine.store import join_store

    settings = load_settings(config_file(config), os.environ, overrides_of(data, host=host, port=port))
    clock = SystemClock()
    store = join_store(settings.settings.data_dir, clock.now)
    try:
        yield Opened(store, clock, settings)
    finally:
        store.close()
