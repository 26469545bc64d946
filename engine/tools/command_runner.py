"""Programs that a tool starts: an argument list, never a shell; one total deadline; bounded output."""

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
    """The program was started and did not end in time; it was ended."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a program ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    def output_tail(self) -> str:
        """The end of what it printed, for people."""
        return " ".join((self.stderr.strip() or self.stdout.strip()).split())[-_MAX_TAIL_CHARS:]


class _OutputCollector(asyncio.SubprocessProtocol):
    """Keeps what a program prints, up to the limit, and when it ends."""

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
    """Run it to its end. It sees none of our own variables and no input, and is the head of its own group.

    What it leaves running in the background (a daemon) may live on, and hold its output open. Raises
    ToolError where it cannot be started, TimedOutError.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIX)}
    try:
        transport, watch = await asyncio.get_running_loop().subprocess_exec(
            _OutputCollector,
            *argv,
            env={**inherited, **(env or {})},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot start {argv[0]}: {error}; write its whole path") from error
    try:
        async with asyncio.timeout(timeout_s):
            await watch.exited.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PIPE_GRACE_S):
                await watch.pipes_closed.wait()
    except TimeoutError:
        raise CommandTimeoutError(f"{argv[0]} did not end within {timeout_s:g} s and was ended") from None
    finally:
        if not watch.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await watch.exited.wait()
        transport.close()
    out, err = (bytes(part).decode(errors="replace") for part in watch.output.values())
    return CommandResult(transport.get_returncode() or 0, out, err)
