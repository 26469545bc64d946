"""Runner for commands of tools: an argument list instead of a shell, one total deadline, bounded output."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.engine.errors import ToolError

MAX_OUTPUT_BYTES = 16 * 2**20
_MAX_TAIL_CHARS = 300
_PIPE_GRACE_S = 0.5
_OWN_PREFIX = "TRIMTAB_"


class CommandTimeoutError(ToolError):
    """The command started, exceeded its timeout and was killed."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str

    def output_tail(self) -> str:
        """Return the end of stderr, or of stdout when stderr is empty, on one line."""
        return " ".join((self.stderr.strip() or self.stdout.strip()).split())[-_MAX_TAIL_CHARS:]


class _OutputCollector(asyncio.SubprocessProtocol):
    """Collects stdout and stderr up to the size limit and signals the exit of the process."""

    def __init__(self) -> None:
        self.output = {1: bytearray(), 2: bytearray()}
        self.open_pipes = {1, 2}
        self.exited = asyncio.Event()
        self.pipes_closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if len(self.output[fd]) < MAX_OUTPUT_BYTES:
            self.output[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio gives it
        self.open_pipes.discard(fd)
        if not self.open_pipes:
            self.pipes_closed.set()

    def process_exited(self) -> None:
        self.exited.set()


async def run_command(
    argv: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None
) -> CommandResult:
    """Run a command to its end.

    The command gets no stdin, none of our TRIMTAB_ environment variables, and a process group of its own.
    A daemon that it leaves running may survive and keep the output pipes open.

    timeout_s : seconds until the process group is killed
    env       : variables added to the inherited environment

    Raises ToolError when the command cannot be started, CommandTimeoutError when it exceeds the timeout.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIX)}
    try:
        transport, collector = await asyncio.get_running_loop().subprocess_exec(
            _OutputCollector,
            *argv,
            env={**inherited, **(env or {})},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot start {argv[0]}: {error}; give its full path") from error
    try:
        async with asyncio.timeout(timeout_s):
            await collector.exited.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PIPE_GRACE_S):
                await collector.pipes_closed.wait()
    except TimeoutError:
        raise CommandTimeoutError(f"{argv[0]} did not end within {timeout_s:g} s and was killed") from None
    finally:
        if not collector.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await collector.exited.wait()
        transport.close()
    out, err = (bytes(part).decode(errors="replace") for part in collector.output.values())
    return CommandResult(transport.get_returncode() or 0, out, err)
