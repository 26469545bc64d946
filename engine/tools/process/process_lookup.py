"""Which process is meant: exactly one, and surely still the same one when a signal is sent to it."""

import os
import re
import signal
from dataclasses import dataclass

import psutil

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError
from trimtab.engine.settings.service_tools import WatchedProcess

_CLOCK_SLACK_S = 2.0
"""Start times are told to a hundredth of a second, times of files by another clock."""


class ProcessNotRunningError(NotFoundError):
    """No such process runs now."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process and no other. started : seconds since 1970; a pid that is used again has another."""

    pid: int
    start_time_s: float


def find_process(name: str, wanted: WatchedProcess) -> ProcessIdentity:
    """The process that is meant. Blocks.

    Raises AbsentError where it does not run, ToolError where it is not clear which one it is, RefusedError
    for those that must not be touched.
    """
    pid = _pid_from_file(name, wanted) if wanted.pid_file is not None else _pid_by_name(name, wanted)
    try:
        process = psutil.Process(pid)
        found = ProcessIdentity(pid, process.create_time())
        if wanted.pid_file is not None:
            _verify_pid_file(name, wanted, process, found)
    except psutil.NoSuchProcess as error:
        raise ProcessNotRunningError(f"{name} does not run: there is no process {pid} any more") from error
    except psutil.AccessDenied as error:
        raise ToolError(f"{name}: process {pid} cannot be looked at; run Trimtab as its user") from error
    if pid <= 1 or pid == os.getpid():
        raise RefusedError(
            f"{name} is process {pid}, {'the init' if pid <= 1 else 'Trimtab itself'}; refused"
        )
    return found


def _pid_from_file(name: str, wanted: WatchedProcess) -> int:
    file = wanted.pid_file
    assert file is not None  # noqa: S101 - the caller has looked
    try:
        text = file.expanduser().read_bytes()[:64].decode("ascii").strip()
        pid = int(text)
    except FileNotFoundError as error:
        raise ProcessNotRunningError(f"{name} does not run: there is no {file}") from error
    except OSError as error:
        raise ToolError(f"{name}: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ToolError(f"{name}: {file} holds no process id; wanted one number") from error
    if not 0 < pid < 2**31:
        raise ToolError(f"{name}: {file} holds {pid}, which is no process id")
    return pid


def _verify_pid_file(
    name: str, wanted: WatchedProcess, process: psutil.Process, found: ProcessIdentity
) -> None:
    """A process that began after the file was written has only taken the number over."""
    file = wanted.pid_file
    assert file is not None  # noqa: S101 - the caller has looked
    written = file.expanduser().stat().st_mtime
    if found.start_time_s > written + _CLOCK_SLACK_S:
        raise ProcessNotRunningError(
            f"{name} does not run: process {found.pid} is younger than {file}, so the number is used again"
        )
    if not _matches(process, wanted):
        raise ToolError(
            f"{name}: {file} says {found.pid}, but that is {process.name()!r}, not what name and command want"
        )


def _pid_by_name(name: str, wanted: WatchedProcess) -> int:
    me = os.getpid()
    found = [p.pid for p in psutil.process_iter() if p.pid != me and _matches_if_readable(p, wanted)]
    if not found:
        raise ProcessNotRunningError(
            f"{name} does not run: no process is called {wanted.name!r} and matches its command"
        )
    if len(found) > 1:
        shown = ", ".join(map(str, sorted(found)[:5]))
        raise ToolError(
            f"{name} is not clear: {len(found)} processes match ({shown}); write a command that only one has"
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
    """Send a signal to that very process; never to another that has its number by now. Blocks.

    Raises ConflictError where it has ended, ToolError where it is not ours to signal.
    """
    try:
        if hasattr(os, "pidfd_open"):
            _send_by_pidfd(name, process, number)
        else:
            _require_running(name, process)
            os.kill(process.pid, number)
    except ProcessLookupError as error:
        raise ConflictError(f"{name}: process {process.pid} has ended meanwhile; nothing was sent") from error
    except PermissionError as error:
        raise ToolError(
            f"{name}: process {process.pid} is of another user; run Trimtab as that user"
        ) from error


def _send_by_pidfd(name: str, to: ProcessIdentity, number: signal.Signals) -> None:
    """The handle is of one process for ever: it is opened, then the process compared, then used."""
    handle = os.pidfd_open(to.pid)
    try:
        _require_running(name, to)
        signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _require_running(name: str, to: ProcessIdentity) -> None:
    if not is_running(to):
        raise ConflictError(f"{name}: process {to.pid} has ended meanwhile; nothing was sent")


def is_running(one: ProcessIdentity) -> bool:
    """Whether that very process still runs; one that has ended and was not fetched yet does not."""
    try:
        process = psutil.Process(one.pid)
        return process.create_time() == one.start_time_s and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_metrics(one: ProcessIdentity) -> dict[str, float]:
    """By the names of the process exporter. Blocks; what may not be read is not there. Raises AbsentError."""
    found: dict[str, float] = {"namedprocess_namegroup_num_procs": 1.0}
    try:
        process = psutil.Process(one.pid)
        with process.oneshot():
            if process.create_time() != one.start_time_s:
                raise ProcessNotRunningError(f"process {one.pid} has ended")
            memory, cpu = process.memory_info(), process.cpu_times()
            found |= {
                'namedprocess_namegroup_memory_bytes{memtype="resident"}': float(memory.rss),
                'namedprocess_namegroup_memory_bytes{memtype="virtual"}': float(memory.vms),
                'namedprocess_namegroup_cpu_seconds_total{mode="user"}': cpu.user,
                'namedprocess_namegroup_cpu_seconds_total{mode="system"}': cpu.system,
                "namedprocess_namegroup_num_threads": float(process.num_threads()),
                "namedprocess_namegroup_oldest_start_time_seconds": one.start_time_s,
            }
        return found | _file_descriptor_metrics(process)
    except psutil.NoSuchProcess as error:
        raise ProcessNotRunningError(f"process {one.pid} has ended") from error
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
