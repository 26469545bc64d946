"""Reload of the settings when their file changes; what is invalid changes nothing."""

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
"""What takes effect at once; everything else at the next start."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What a change of the file comes to.

    settings : to go on with; those that need a restart are still the old ones
    changed  : names that take effect now
    later    : names that take effect at the next start
    """

    settings: Settings
    applied_now: tuple[str, ...]
    needs_restart: tuple[str, ...]


def compare_settings(old: Settings, new: Settings) -> SettingsChange:
    """What going from `old` to `new` changes now, and what only at the next start."""
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
    """Yield what the file says, or what is wrong with it, each time its content changed.

    Watches the folder, not the file: editors and Kubernetes replace files. Looks again every `recheck_s`
    seconds, because some file systems tell nothing.
    """
    from watchfiles import awatch

    seen = _content(path)
    folder, pause_ms = path.parent, int(recheck_s * 1000)
    async for _ in awatch(
        folder, stop_event=stop, recursive=False, debounce=300, rust_timeout=pause_ms, yield_on_timeout=True
    ):
        content = _content(path)
        if content == seen:
            continue
        seen = content
        yield reload_settings(path, environ, overrides)


def reload_settings(
    path: Path, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings | SettingsError:
    """What the file says now, or what is wrong with it."""
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
    told = {name: getattr(new.notify, name) for name in ("notifications_per_week", "silences")}
    whole = {name: getattr(new, name) for name in ("sources", "writer", "tools", "guardrails", "capacity")}
    return old.model_copy(update={**whole, "settings": general, "notify": old.notify.model_copy(update=told)})
