"""Opens the store of a data folder for commands; an engine may run on the same folder."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.engine.cli.options import find_config_file, settings_overrides

if TYPE_CHECKING:
    from trimtab.engine.clock import SystemClock
    from trimtab.engine.settings import Settings
    from trimtab.engine.store.action_ledger import ActionLedger
    from trimtab.engine.store.event_store import EventStore


@dataclass(frozen=True, slots=True)
class StoreSession:
    """Open store, clock and settings of a command."""

    store: "EventStore"
    clock: "SystemClock"
    settings: "Settings"

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.settings.settings.data_dir.expanduser()

    def engine_url(self) -> str:
        """Return the URL of the engine on this folder; "" = none runs, or its URL is unknown."""
        from trimtab.engine.store.lease import ADDRESS_FILE, current_holder

        if current_holder(self.data_dir) is None:
            return ""
        try:
            return (self.data_dir / ADDRESS_FILE).read_text("utf-8").strip()
        except OSError:
            return ""

    def describe_engine(self) -> str:
        """Return which engine the command affects, in words; warns if none runs on this folder."""
        from trimtab.engine.store.lease import current_holder

        holder = current_holder(self.data_dir)
        if holder is not None:
            return f"the engine on {self.data_dir} (process {holder.pid or 'unknown'})"
        return (
            f"no engine runs on {self.data_dir}; the change applies to the next engine there. To reach "
            "another engine, give its --config or --data"
        )

    @property
    def ledger(self) -> "ActionLedger":
        """Recommendations, actions, their audit and the pause."""
        from trimtab.engine.store.action_ledger import ActionLedger
        from trimtab.engine.store.audit_anchor import ANCHOR_FILE

        return ActionLedger(self.store.fenced, self.data_dir / ANCHOR_FILE)


@contextmanager
def store_session(
    config: Path | None, data: Path | None, host: str | None = None, port: int | None = None
) -> Iterator[StoreSession]:
    """Open the store for the duration of a `with` block. Raises SettingsError, StoreError."""
    from trimtab.engine.clock import SystemClock
    from trimtab.engine.settings.settings_file import load_settings
    from trimtab.engine.store import join_store

    settings = load_settings(
        find_config_file(config), os.environ, settings_overrides(data, host=host, port=port)
    )
    clock = SystemClock()
    store = join_store(settings.settings.data_dir, clock.now)
    try:
        yield StoreSession(store, clock, settings)
    finally:
        store.close()


def current_user() -> str:
    """Return the user who runs the command; "uid N" for a user without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
