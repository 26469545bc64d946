"""Rules for every test: loopback only, no settings of this user, skips are listed, kernels are kept.

TRIMTAB_REQUIRE=all turns every skip into a failure.
"""

import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from trimtab.engine.platform.kernel_warmup import prepare_environment

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab-tests"
prepare_environment(_CACHE, os.environ)  # before anything imports numba
if sys.dont_write_bytecode:  # otherwise each process that a test starts compiles all sources again
    del os.environ["PYTHONDONTWRITEBYTECODE"]
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(_CACHE / "bytecode")

import pytest  # noqa: E402 - must follow the lines above

from tests.progress_lines import FileProgress  # noqa: E402 - as above

_ALL_REQUIRED = os.environ.get("TRIMTAB_REQUIRE") == "all"
_TEST_VARIABLES = ("TRIMTAB_REQUIRE",)


class NonLoopbackConnectionError(BaseException):
    """A test tried to reach another machine. A BaseException, so that no `except Exception` hides it."""


def _check_loopback(address: object) -> None:
    if not isinstance(address, tuple) or not address:
        return  # a Unix socket
    host = str(address[0])
    if host in {"", "localhost"}:
        return
    try:
        inside = ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise NonLoopbackConnectionError(f"a test tried to reach {address!r}; tests may use loopback only")


def _guard_socket_method(name: str) -> None:
    """Check the address, which is the last argument of connect, connect_ex and sendto."""
    original = getattr(socket.socket, name)

    def guard(self: socket.socket, *args: Any) -> Any:
        _check_loopback(args[-1])
        return original(self, *args)

    setattr(socket.socket, name, guard)


def pytest_configure(config: pytest.Config) -> None:
    """Block connections to other machines and register the markers."""
    for name in ("connect", "connect_ex", "sendto"):
        _guard_socket_method(name)
    lookup = socket.getaddrinfo

    def guard(host: Any, *args: Any, **more: Any) -> Any:
        _check_loopback((host.decode() if isinstance(host, bytes) else host or "localhost",))
        return lookup(host, *args, **more)

    socket.getaddrinfo = guard
    if getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(FileProgress(config))
    config.addinivalue_line("markers", "acceptance: the whole product on real servers, waiting on real time")
    config.addinivalue_line(
        "markers", "slow: several seconds of waiting or computing; run by `make test-all` only"
    )
    config.addinivalue_line("markers", "trials: long forms of the acceptance tests, by `make trials` only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the long trials unless they are requested."""
    if "trials" not in (config.option.markexpr or ""):
        long = [item for item in items if item.get_closest_marker("trials")]
        if long:
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if item not in set(long)]


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Turn a skip into a failure if everything is required; an expected failure stays one."""
    report = yield
    if _ALL_REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but TRIMTAB_REQUIRE=all: {_skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    """Turn the skip of a whole file into a failure, likewise."""
    report = yield
    if _ALL_REQUIRED and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped, but TRIMTAB_REQUIRE=all: {_skip_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List skipped tests and their reasons."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    reasons: dict[str, list[str]] = {}
    for report in skipped:
        reasons.setdefault(_skip_reason(report), []).append(report.nodeid)
    terminalreporter.section("skipped on this machine")
    for reason, names in sorted(reasons.items()):
        terminalreporter.line(f"{len(names)} x {reason}")
        terminalreporter.line(f"    {names[0]}" + (" ..." if len(names) > 1 else ""))


@pytest.fixture(autouse=True)
def _without_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all TRIMTAB_ variables that the test did not set."""
    for name in [name for name in os.environ if name.startswith("TRIMTAB_") and name not in _TEST_VARIABLES]:
        monkeypatch.delenv(name)
