"""`trimtab doctor`: checks everything that `trimtab up` needs, and advises how to fix problems."""

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
"""Bytes of free disk space needed in addition to the growth of the score log."""
_GB = 1e9


class CheckState(StrEnum):
    """Result of a check."""

    OK = "ok"
    FOUND = "found"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Check:
    """One checked thing.

    advice : how to fix it; empty if it is fine
    items  : details one by one, such as series over the cap
    """

    name: str
    state: CheckState
    detail: str
    advice: str = ""
    items: tuple[str, ...] = ()

    def as_row(self) -> dict[str, object]:
        """Return the check as a row of output."""
        row: dict[str, object] = {
            "check": self.name,
            "state": str(self.state),
            "detail": self.detail,
            "advice": self.advice,
        }
        return {**row, "items": list(self.items)} if self.items else row


def exit_code(checks: Sequence[Check]) -> int:
    """Return 3 if something is unreachable, else 1 if a problem was found, else 0.

    >>> exit_code([Check("disk", CheckState.OK, "20 GB free")])
    0
    """
    states = {check.state for check in checks}
    if CheckState.UNREACHABLE in states:
        return EXIT_UNREACHABLE
    return EXIT_FOUND if CheckState.FOUND in states else EXIT_OK


def run_checks(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> list[Check]:
    """Run all checks; with invalid settings, only those that need no settings."""
    checks = [_check_python(), _check_dashboard()]
    try:
        settings = load_settings(config, environ, overrides)
    except SettingsError as error:
        mistakes = tuple(str(error).splitlines())
        return [
            *checks,
            Check("settings", CheckState.FOUND, mistakes[0], "fix it; nothing else was checked", mistakes),
        ]
    origin = f"from {config}" if config is not None else "defaults: there is no trimtab.yaml in this folder"
    checks.append(Check("settings", CheckState.OK, origin))
    checks += _local_checks(settings, environ)
    return checks + asyncio.run(_remote_checks(settings))


def dry_run_text(settings: Settings) -> str:
    """Return the settings in force as YAML with secrets hidden, and the sources as comments."""
    import yaml

    from trimtab.engine.redaction import redact

    visible_settings = redact(settings.model_dump(mode="json", exclude_none=True))
    text = str(yaml.safe_dump(visible_settings, sort_keys=False, allow_unicode=True))
    lines = "".join(_yaml_comment(check) for check in asyncio.run(_remote_checks(settings)))
    return f"{text}\n# sources, tools and receivers\n{lines}".rstrip("\n")


def _yaml_comment(check: Check) -> str:
    """Return a check as YAML comment lines."""
    detail = " ".join(check.detail.split())
    lines = (f"{check.name}: {detail} ({check.state})", *(f"  {item}" for item in check.items))
    return "".join(f"# {line}\n" for line in lines)


async def _remote_checks(settings: Settings) -> list[Check]:
    """Check sources, tools and notification receivers over the network."""
    from trimtab.engine.cli.doctor.receiver_checks import receiver_checks
    from trimtab.engine.cli.doctor.source_checks import source_checks
    from trimtab.engine.cli.doctor.tool_checks import tool_checks

    sources = await source_checks(settings)  # alone, because the duration of a read is measured
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
    """Find valid settings that still keep `trimtab up` from starting."""
    from trimtab.engine.api.security.listen_address import check_listen_address
    from trimtab.models.catalogue import detector

    try:
        check_listen_address(settings.api)
    except SettingsError as error:
        yield Check(
            "api", CheckState.FOUND, str(error), "fix api: in trimtab.yaml; Trimtab does not start with it"
        )
    for name in settings.settings.detectors:
        try:
            if name != "default":
                detector(name, n_series=1)
        except TrimtabError as error:
            yield Check("detectors", CheckState.FOUND, str(error), "fix settings.detectors")


def _check_python() -> Check:
    detail = f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}"
    return Check("python", CheckState.OK, detail)


def _check_dashboard() -> Check:
    index_page = Path(__file__).parents[2] / "web" / "dist" / "index.html"
    if index_page.is_file():
        return Check("dashboard", CheckState.OK, "built")
    return Check(
        "dashboard",
        CheckState.FOUND,
        f"{index_page} is missing",
        "build it with `make web`; the API works without it",
    )


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _check_data_dir(data_dir: Path, holder: "LeaseHolder | None") -> Check:
    existing = _nearest_existing(data_dir)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(
            "data folder", CheckState.FOUND, f"{existing} is not writable: {error.strerror}",
            "change its permissions, or choose another folder with --data or settings.data_dir",
        )  # fmt: skip
    if holder is not None:
        return Check("data folder", CheckState.OK, f"{data_dir}, in use by an engine: {holder}")
    note = "free" if existing == data_dir else "created at the first start"
    return Check("data folder", CheckState.OK, f"{data_dir}, {note}")


def _check_kernels(data_dir: Path, environ: Mapping[str, str]) -> Check:
    from trimtab.engine.platform.kernel_cache import cache_roots, compiled_files, kernel_folder

    given = environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else kernel_folder(next(cache_roots(data_dir, environ)))
    count = len(compiled_files(folder)) if folder.is_dir() else 0
    detail = (
        f"{count} files in {folder}" if count else "compiled at the first start, which takes up to a minute"
    )
    return Check("kernels", CheckState.OK, detail)


def _check_disk(data_dir: Path, log_bytes: int) -> Check:
    usage = shutil.disk_usage(_nearest_existing(data_dir))
    scores = data_dir / "scores"
    used = sum(file.stat().st_size for file in scores.rglob("*.parquet")) if scores.is_dir() else 0
    needed = max(log_bytes - used, 0) + _MIN_FREE_BYTES
    detail = f"{usage.free / _GB:.1f} GB free, up to {needed / _GB:.1f} GB needed"
    if usage.free >= needed:
        return Check("disk", CheckState.OK, detail)
    return Check("disk", CheckState.FOUND, detail, "free disk space, or lower retention.size_bytes")


def _check_port(host: str, port: int, *, running: bool) -> Check:
    name = f"{host}:{port}"
    if port == 0:
        return Check("port", CheckState.OK, f"{host}, any free port")
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address[4])
    except OSError as error:
        if running:
            return Check("port", CheckState.OK, f"{name}, in use by the running engine")
        return Check(
            "port",
            CheckState.FOUND,
            f"{name}: {error.strerror}",
            "choose another port with --port or api.port",
        )
    return Check("port", CheckState.OK, f"{name} is free")
