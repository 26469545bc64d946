"""Settings file watcher: reloads changed settings; an invalid file changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Settings
from trimtab.engine.settings.settings_file import load_settings

LIVE_SETTINGS = (
    "settings.false_alarms_per_week", "settings.log_level", "sources.host", "sources.prometheus",
    "sources.files", "writer", "tools", "guardrails", "capacity", "notify.notifications_per_week",
    "notify.silences",
)  # fmt: skip
"""Settings that take effect without a restart."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """Result of comparing old and new settings.

    settings      : settings to use now; those that need a restart keep their old values
    applied_now   : names of changed settings that take effect now
    needs_restart : names of changed settings that take effect at the next start
    """

    settings: Settings
    applied_now: tuple[str, ...]
    needs_restart: tuple[str, ...]


def compare_settings(old: Settings, new: Settings) -> SettingsChange:
    """Compare two settings: what changes now and what needs a restart."""
    changed: list[str] = []
    later: list[str] = []
    for name in _compared_names():
        if _value_at(old, name) != _value_at(new, name):
            (changed if name in LIVE_SETTINGS else later).append(name)
    return SettingsChange(_merge_live_settings(old, new), tuple(changed), tuple(later))


async def watch_settings(
    path: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    stop: asyncio.Event | None = None,
    recheck_s: float = 5.0,
) -> AsyncIterator[Settings | SettingsError]:
    """Yield the new settings, or the error in the file, each time its content changes.

    path      : trimtab.yaml
    environ   : environment variables
    overrides : dotted name -> value, from the command line
    stop      : ends the iteration when set
    recheck_s : seconds between checks without a file system event, which some file systems never send

    Watches the folder instead of the file, because editors and Kubernetes replace files.
    """
    from watchfiles import awatch

    previous = _content(path)
    folder, pause_ms = path.parent, int(recheck_s * 1000)
    async for _ in awatch(
        folder, stop_event=stop, recursive=False, debounce=300, rust_timeout=pause_ms, yield_on_timeout=True
    ):
        content = _content(path)
        if content == previous:
            continue
        previous = content
        yield reload_settings(path, environ, overrides)


def reload_settings(
    path: Path, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings | SettingsError:
    """Load the settings; return a SettingsError instead of raising it."""
    try:
        return load_settings(path, environ, overrides)
    except SettingsError as error:
        return error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _compared_names() -> list[str]:
    split = ("settings", "sources", "api", "retention", "notify")
    whole = [name for name in Settings.model_fields if name not in split]
    inside = {name: type(getattr(Settings(), name)).model_fields for name in split}
    return [f"{name}.{field}" for name, fields in inside.items() for field in fields] + whole


def _value_at(settings: Settings, dotted: str) -> object:
    value: object = settings
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def _merge_live_settings(old: Settings, new: Settings) -> Settings:
    general = old.settings.model_copy(
        update={name: getattr(new.settings, name) for name in ("false_alarms_per_week", "log_level")}
    )
    notify_values = {name: getattr(new.notify, name) for name in ("notifications_per_week", "silences")}
    sections = {name: getattr(new, name) for name in ("sources", "writer", "tools", "guardrails", "capacity")}
    return old.model_copy(
        update={**sections, "settings": general, "notify": old.notify.model_copy(update=notify_values)}
    )
