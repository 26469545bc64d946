"""Process lookup: finds exactly one process and makes sure that a signal reaches that process only."""

import os
import re
import signal
from dataclasses import dataclass

import psutil

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError
from trimtab.engine.settings.service_tools import WatchedProcess

_CLOCK_SLACK_S = 2.0
"""Tolerance between process start times and file times, which come from different clocks."""


class ProcessNotRunningError(NotFoundError):
    """The configured process does not run."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identity of a process: a reused pid has another start time (seconds since 1970)."""

    pid: int
    start_time_s: float


def find_process(name: str, wanted: WatchedProcess) -> ProcessIdentity:
    """Return the configured process. Blocks.

    Raises ProcessNotRunningError when it does not run, ToolError when the match is ambiguous or unreadable,
    RefusedError for init and for Trimtab itself.
    """
    pid = _pid_from_file(name, wanted) if wanted.pid_file is not None else _pid_by_name(name, wanted)
    try:
        process = psutil.Process(pid)
        found = ProcessIdentity(pid, process.create_time())
        if wanted.pid_file is not None:
            _verify_pid_file(name, wanted, process, found)
    except psutil.NoSuchProcess as error:
        raise ProcessNotRunningError(f"{name} is not running: there is no process {pid}") from error
    except psutil.AccessDenied as error:
        raise ToolError(f"{name}: process {pid} cannot be read; run Trimtab as its user") from error
    if pid <= 1 or pid == os.getpid():
        raise RefusedError(
            f"{name} is process {pid}, {'init' if pid <= 1 else 'Trimtab itself'}; this is refused"
        )
    return found


def _pid_from_file(name: str, wanted: WatchedProcess) -> int:
    file = wanted.pid_file
    assert file is not None  # noqa: S101 - checked by the caller
    try:
        text = file.expanduser().read_bytes()[:64].decode("ascii").strip()
        pid = int(text)
    except FileNotFoundError as error:
        raise ProcessNotRunningError(f"{name} is not running: there is no {file}") from error
    except OSError as error:
        raise ToolError(f"{name}: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ToolError(f"{name}: {file} holds no process id; it must hold one number") from error
    if not 0 < pid < 2**31:
        raise ToolError(f"{name}: {file} holds {pid}, which is no process id")
    return pid


def _verify_pid_file(
    name: str, wanted: WatchedProcess, process: psutil.Process, found: ProcessIdentity
) -> None:
    """Raise unless the process matches the settings and is older than the PID file (else a reused pid)."""
    file = wanted.pid_file
    assert file is not None  # noqa: S101 - checked by the caller
    written = file.expanduser().stat().st_mtime
    if found.start_time_s > written + _CLOCK_SLACK_S:
        raise ProcessNotRunningError(
            f"{name} is not running: process {found.pid} started after {file} was written; its pid was reused"
        )
    if not _matches(process, wanted):
        raise ToolError(
            f"{name}: {file} names {found.pid}, which is {process.name()!r}; "
            "it does not match name and command"
        )


def _pid_by_name(name: str, wanted: WatchedProcess) -> int:
    own_pid = os.getpid()
    found = [p.pid for p in psutil.process_iter() if p.pid != own_pid and _matches_if_readable(p, wanted)]
    if not found:
        raise ProcessNotRunningError(
            f"{name} is not running: no process has the name {wanted.name!r} and matches the command"
        )
    if len(found) > 1:
        shown = ", ".join(map(str, sorted(found)[:5]))
        raise ToolError(
            f"{name} is ambiguous: {len(found)} processes match ({shown}); make the command more specific"
        )
    return found[0]


def _matches_if_readable(process: psutil.Process, wanted: WatchedProcess) -> bool:
    try:
        return _matches(process, wanted)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _matches(process: psutil.Process, wanted: WatchedProcess) -> bool:
    if wanted.name and process.name() != wanted.name:
        return False
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    return wanted.command is None or re.search(wanted.command, " ".join(process.cmdline())) is not None


def send_signal(name: str, process: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to exactly this process, never to another one that reuses its pid. Blocks.

    Raises ConflictError when it has ended, ToolError when it belongs to another user.
    """
    try:
        if hasattr(os, "pidfd_open"):
            _send_by_pidfd(name, process, number)
        else:
            _require_running(name, process)
            os.kill(process.pid, number)
    except ProcessLookupError as error:
        raise ConflictError(f"{name}: process {process.pid} has ended; nothing was sent") from error
    except PermissionError as error:
        raise ToolError(
            f"{name}: process {process.pid} belongs to another user; run Trimtab as that user"
        ) from error


def _send_by_pidfd(name: str, process: ProcessIdentity, number: signal.Signals) -> None:
    """Send through a pidfd, which always refers to the same process; its identity is checked first."""
    pidfd = os.pidfd_open(process.pid)
    try:
        _require_running(name, process)
        signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _require_running(name: str, process: ProcessIdentity) -> None:
    if not is_running(process):
        raise ConflictError(f"{name}: process {process.pid} has ended; nothing was sent")


def is_running(identity: ProcessIdentity) -> bool:
    """Return whether exactly this process runs; a zombie does not."""
    try:
        process = psutil.Process(identity.pid)
        return process.create_time() == identity.start_time_s and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_metrics(identity: ProcessIdentity) -> dict[str, float]:
    """Return the process's metrics by the names of process-exporter. Blocks; unreadable metrics are missing.

    Raises ProcessNotRunningError.
    """
    found: dict[str, float] = {"namedprocess_namegroup_num_procs": 1.0}
    try:
        process = psutil.Process(identity.pid)
        with process.oneshot():
            if process.create_time() != identity.start_time_s:
                raise ProcessNotRunningError(f"process {identity.pid} has ended")
            memory, cpu = process.memory_info(), process.cpu_times()
            found |= {
                'namedprocess_namegroup_memory_bytes{memtype="resident"}': float(memory.rss),
                'namedprocess_namegroup_memory_bytes{memtype="virtual"}': float(memory.vms),
                'namedprocess_namegroup_cpu_seconds_total{mode="user"}': cpu.user,
                'namedprocess_namegroup_cpu_seconds_total{mode="system"}': cpu.system,
                "namedprocess_namegroup_num_threads": float(process.num_threads()),
                "namedprocess_namegroup_oldest_start_time_seconds": identity.start_time_s,
            }
        return found | _file_descriptor_metrics(process)
    except psutil.NoSuchProcess as error:
        raise ProcessNotRunningError(f"process {identity.pid} has ended") from error
    except psutil.AccessDenied:
        return found


def _file_descriptor_metrics(process: psutil.Process) -> dict[str, float]:
    try:
        used, limit = float(process.num_fds()), float(process.rlimit(psutil.RLIMIT_NOFILE)[0])
    except (psutil.AccessDenied, AttributeError):
        return {}
    return {
        "namedprocess_namegroup_open_filedesc": used,
        "namedprocess_namegroup_worst_fd_ratio": used / limit,
    }
