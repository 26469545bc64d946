"""`trimtab doctor`: whether everything that `trimtab up` needs is in order, and what to do if not."""

import asyncio
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.engine.cli.command_errors import DONE, FOUND, NOT_REACHABLE
from trimtab.engine.errors import SettingsError, TrimtabError
from trimtab.engine.settings import Settings
from trimtab.engine.settings.settings_file import load_settings

if TYPE_CHECKING:
    from trimtab.engine.store.lease import Holder

COLUMNS = ("check", "state", "detail", "advice")
_ROOM_BYTES = 500_000_000
"""Wanted free beside what the score log may still grow to."""
_GB = 1e9


class State(StrEnum):
    """What a check came to."""

    OK = "ok"
    FOUND = "found"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    advice : what to do; empty where it is in order
    items  : what it is about, one by one, such as series over the cap
    """

    name: str
    state: State
    detail: str
    advice: str = ""
    items: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """For a listing."""
        row: dict[str, object] = {
            "check": self.name,
            "state": str(self.state),
            "detail": self.detail,
            "advice": self.advice,
        }
        return {**row, "items": list(self.items)} if self.items else row


def exit_code(checks: Sequence[Check]) -> int:
    """3 where a source is away, else 1 where something was found, else 0.

    >>> exit_code([Check("disk", State.OK, "20 GB free")])
    0
    """
    states = {check.state for check in checks}
    if State.UNREACHABLE in states:
        return NOT_REACHABLE
    return FOUND if State.FOUND in states else DONE


def examine(config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> list[Check]:
    """Look at everything; without valid settings, at what does not need them."""
    checks = [_python(), _web()]
    try:
        settings = load_settings(config, environ, overrides)
    except SettingsError as error:
        wrong = tuple(str(error).splitlines())
        return [
            *checks,
            Check("settings", State.FOUND, wrong[0], "correct it; nothing else was looked at", wrong),
        ]
    where = f"from {config}" if config is not None else "defaults, no trimtab.yaml here"
    checks.append(Check("settings", State.OK, where))
    checks += _local(settings, environ)
    return checks + asyncio.run(_far(settings))


def preview(settings: Settings) -> str:
    """The settings that would be in force as YAML, secrets hidden, and what is there to watch."""
    import yaml

    from trimtab.engine.redaction import clean

    shown = clean(settings.model_dump(mode="json", exclude_none=True))
    text = str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    lines = "".join(_comment(check) for check in asyncio.run(_far(settings)))
    return f"{text}\n# would watch and use\n{lines}".rstrip("\n")


def _comment(check: Check) -> str:
    """A check as lines of a comment in YAML."""
    said = " ".join(check.detail.split())
    lines = (f"{check.name}: {said} ({check.state})", *(f"  {item}" for item in check.items))
    return "".join(f"# {line}\n" for line in lines)


async def _far(settings: Settings) -> list[Check]:
    """What answers over the network or not: sources, tools, receivers of notices."""
    from trimtab.engine.cli.doctor.receiver_checks import receiver_checks
    from trimtab.engine.cli.doctor.source_checks import source_checks
    from trimtab.engine.cli.doctor.tool_checks import tool_checks

    sources = await source_checks(settings)  # alone, as what a read costs is measured
    tools, receivers = await asyncio.gather(tool_checks(settings.tools), receiver_checks(settings))
    return [*sources, *tools, *receivers]


def _local(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    from trimtab.engine.store.lease import holder_of

    data_dir = settings.settings.data_dir
    holder = holder_of(data_dir)
    yield _data(data_dir, holder)
    yield _kernels(data_dir, environ)
    yield _disk(data_dir, settings.retention.size_bytes)
    yield _port(settings.api.host, settings.api.port, running=holder is not None)
    yield from _refused(settings)


def _refused(settings: Settings) -> Iterator[Check]:
    """What is well-formed, and yet keeps `trimtab up` from starting."""
    from trimtab.engine.api.security.listen_address import check_bind
    from trimtab.models.catalogue import detector

    try:
        check_bind(settings.api)
    except SettingsError as error:
        yield Check("api", State.FOUND, str(error), "correct api: in trimtab.yaml; it does not start so")
    for name in settings.settings.detectors:
        try:
            if name != "default":
                detector(name, n_series=1)
        except TrimtabError as error:
            yield Check("detectors", State.FOUND, str(error), "correct settings.detectors")


def _python() -> Check:
    detail = f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}"
    return Check("python", State.OK, detail)


def _web() -> Check:
    page = Path(__file__).parents[2] / "web" / "dist" / "index.html"
    if page.is_file():
        return Check("dashboard", State.OK, "built")
    return Check(
        "dashboard", State.FOUND, f"{page} is missing", "build it with `make web`; the API works without"
    )


def _standing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _data(data_dir: Path, holder: "Holder | None") -> Check:
    standing = _standing(data_dir)
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as error:
        return Check(
            "data folder", State.FOUND, f"{standing} cannot be written: {error.strerror}",
            "change its rights, or choose another folder with --data or settings.data_dir",
        )  # fmt: skip
    if holder is not None:
        return Check("data folder", State.OK, f"{data_dir}, in use by an engine: {holder}")
    what = "free" if standing == data_dir else "made at the first start"
    return Check("data folder", State.OK, f"{data_dir}, {what}")


def _kernels(data_dir: Path, environ: Mapping[str, str]) -> Check:
    from trimtab.engine.platform.kernel_cache import cache_roots, compiled, kernel_folder

    given = environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else kernel_folder(next(cache_roots(data_dir, environ)))
    count = len(compiled(folder)) if folder.is_dir() else 0
    detail = f"{count} files in {folder}" if count else "compiled at the first start, within a minute"
    return Check("kernels", State.OK, detail)


def _disk(data_dir: Path, log_bytes: int) -> Check:
    usage = shutil.disk_usage(_standing(data_dir))
    scores = data_dir / "scores"
    taken = sum(file.stat().st_size for file in scores.rglob("*.parquet")) if scores.is_dir() else 0
    wanted = max(log_bytes - taken, 0) + _ROOM_BYTES
    detail = f"{usage.free / _GB:.1f} GB free, up to {wanted / _GB:.1f} GB wanted"
    if usage.free >= wanted:
        return Check("disk", State.OK, detail)
    return Check("disk", State.FOUND, detail, "free space, or lower retention.size_bytes")


def _port(host: str, port: int, *, running: bool) -> Check:
    name = f"{host}:{port}"
    if port == 0:
        return Check("port", State.OK, f"{host}, any free port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        if running:
            return Check("port", State.OK, f"{name}, in use while an engine runs")
        return Check(
            "port", State.FOUND, f"{name}: {error.strerror}", "choose another with --port or api.port"
        )
    return Check("port", State.OK, f"{name} is free")
