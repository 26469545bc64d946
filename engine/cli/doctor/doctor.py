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

from trimtab.engine.cli.command_errors import EXIT_FOUND, EXIT_OK, EXIT_UNREACHABLE
from trimtab.engine.errors import SettingsError, TrimtabError
from trimtab.engine.settings import Settings
from trimtab.engine.settings.settings_file import load_settings

if TYPE_CHECKING:
    from trimtab.engine.store.lease import LeaseHolder

COLUMNS = ("check", "state", "detail", "advice")
_MIN_FREE_BYTES = 500_000_000
"""Wanted free beside what the score log may still grow to."""
_GB = 1e9


class CheckState(StrEnum):
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
    state: CheckState
    detail: str
    advice: str = ""
    items: tuple[str, ...] = ()

    def as_row(self) -> dict[str, object]:
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
    if CheckState.UNREACHABLE in states:
        return EXIT_UNREACHABLE
    return EXIT_FOUND if CheckState.FOUND in states else EXIT_OK


def run_checks(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> list[Check]:
    """Look at everything; without valid settings, at what does not need them."""
    checks = [_check_python(), _check_dashboard()]
    try:
        settings = load_settings(config, environ, overrides)
    except SettingsError as error:
        wrong = tuple(str(error).splitlines())
        return [
            *checks,
            Check("settings", CheckState.FOUND, wrong[0], "correct it; nothing else was looked at", wrong),
        ]
    where = f"from {config}" if config is not None else "defaults, no trimtab.yaml here"
    checks.append(Check("settings", CheckState.OK, where))
    checks += _local_checks(settings, environ)
    return checks + asyncio.run(_remote_checks(settings))


def dry_run_text(settings: Settings) -> str:
    """The settings that would be in force as YAML, secrets hidden, and what is there to watch."""
    import yaml

    from trimtab.engine.redaction import redact

    shown = redact(settings.model_dump(mode="json", exclude_none=True))
    text = str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    lines = "".join(_yaml_comment(check) for check in asyncio.run(_remote_checks(settings)))
    return f"{text}\n# would watch and use\n{lines}".rstrip("\n")


def _yaml_comment(check: Check) -> str:
    """A check as lines of a comment in YAML."""
    said = " ".join(check.detail.split())
    lines = (f"{check.name}: {said} ({check.state})", *(f"  {item}" for item in check.items))
    return "".join(f"# {line}\n" for line in lines)


async def _remote_checks(settings: Settings) -> list[Check]:
    """What answers over the network or not: sources, tools, receivers of notices."""
    from trimtab.engine.cli.doctor.receiver_checks import receiver_checks
    from trimtab.engine.cli.doctor.source_checks import source_checks
    from trimtab.engine.cli.doctor.tool_checks import tool_checks

    sources = await source_checks(settings)  # alone, as what a read costs is measured
    tools, receivers = await asyncio.gather(tool_checks(settings.tools), receiver_checks(settings))
    return [*sources, *tools, *receivers]


def _local_checks(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    from trimtab.engine.store.lease import current_holder

    data_dir = settings.settings.data_dir
    holder = current_holder(data_dir)
    yield _check_data_dir(data_dir, holder)
    yield _check_kernels(data_dir, environ)
    yield _check_disk(data_dir, settings.retention.size_bytes)
    yield _check_port(settings.api.host, settings.api.port, running=holder is not None)
    yield from _startup_checks(settings)


def _startup_checks(settings: Settings) -> Iterator[Check]:
    """What is well-formed, and yet keeps `trimtab up` from starting."""
    from trimtab.engine.api.security.listen_address import check_listen_address
    from trimtab.models.catalogue import detector

    try:
        check_listen_address(settings.api)
    except SettingsError as error:
        yield Check("api", CheckState.FOUND, str(error), "correct api: in trimtab.yaml; it does not start so")
    for name in settings.settings.detectors:
        try:
            if name != "default":
                detector(name, n_series=1)
        except TrimtabError as error:
            yield Check("detectors", CheckState.FOUND, str(error), "correct settings.detectors")


def _check_python() -> Check:
    detail = f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}"
    return Check("python", CheckState.OK, detail)


def _check_dashboard() -> Check:
    page = Path(__file__).parents[2] / "web" / "dist" / "index.html"
    if page.is_file():
        return Check("dashboard", CheckState.OK, "built")
    return Check(
        "dashboard", CheckState.FOUND, f"{page} is missing", "build it with `make web`; the API works without"
    )


def _nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _check_data_dir(data_dir: Path, holder: "LeaseHolder | None") -> Check:
    standing = _nearest_existing(data_dir)
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as error:
        return Check(
            "data folder", CheckState.FOUND, f"{standing} cannot be written: {error.strerror}",
            "change its rights, or choose another folder with --data or settings.data_dir",
        )  # fmt: skip
    if holder is not None:
        return Check("data folder", CheckState.OK, f"{data_dir}, in use by an engine: {holder}")
    what = "free" if standing == data_dir else "made at the first start"
    return Check("data folder", CheckState.OK, f"{data_dir}, {what}")


def _check_kernels(data_dir: Path, environ: Mapping[str, str]) -> Check:
    from trimtab.engine.platform.kernel_cache import cache_roots, compiled_files, kernel_folder

    given = environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else kernel_folder(next(cache_roots(data_dir, environ)))
    count = len(compiled_files(folder)) if folder.is_dir() else 0
    detail = f"{count} files in {folder}" if count else "compiled at the first start, within a minute"
    return Check("kernels", CheckState.OK, detail)


def _check_disk(data_dir: Path, log_bytes: int) -> Check:
    usage = shutil.disk_usage(_nearest_existing(data_dir))
    scores = data_dir / "scores"
    taken = sum(file.stat().st_size for file in scores.rglob("*.parquet")) if scores.is_dir() else 0
    wanted = max(log_bytes - taken, 0) + _MIN_FREE_BYTES
    detail = f"{usage.free / _GB:.1f} GB free, up to {wanted / _GB:.1f} GB wanted"
    if usage.free >= wanted:
        return Check("disk", CheckState.OK, detail)
    return Check("disk", CheckState.FOUND, detail, "free space, or lower retention.size_bytes")


def _check_port(host: str, port: int, *, running: bool) -> Check:
    name = f"{host}:{port}"
    if port == 0:
        return Check("port", CheckState.OK, f"{host}, any free port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        if running:
            return Check("port", CheckState.OK, f"{name}, in use while an engine runs")
        return Check(
            "port", CheckState.FOUND, f"{name}: {error.strerror}", "choose another with --port or api.port"
        )
    return Check("port", CheckState.OK, f"{name} is free")
