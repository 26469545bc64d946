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
_SHOWN = 300
_LAST_WORDS_S = 0.5
_OURS = "TRIMTAB_"


class TimedOutError(ToolError):
    """The program was started and did not end in time; it was ended."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended, and what it printed."""

    code: int
    out: str
    err: str

    def said(self) -> str:
        """The end of what it printed, for people."""
        return " ".join((self.err.strip() or self.out.strip()).split())[-_SHOWN:]


class _Watch(asyncio.SubprocessProtocol):
    """Keeps what a program prints, up to the limit, and when it ends."""

    def __init__(self) -> None:
        self.kept = {1: bytearray(), 2: bytearray()}
        self.open = {1, 2}
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if len(self.kept[fd]) < MAX_OUTPUT_BYTES:
            self.kept[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio gives it
        self.open.discard(fd)
        if not self.open:
            self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()


async def run_program(argv: Sequence[str], limit_s: float, environ: Mapping[str, str] | None = None) -> Ran:
    """Run it to its end. It sees none of our own variables and no input, and is the head of its own group.

    What it leaves running in the background (a daemon) may live on, and hold its output open. Raises
    ToolError where it cannot be started, TimedOutError.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    try:
        transport, watch = await asyncio.get_running_loop().subprocess_exec(
            _Watch,
            *argv,
            env={**inherited, **(environ or {})},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot start {argv[0]}: {error}; write its whole path") from error
    try:
        async with asyncio.timeout(limit_s):
            await watch.exited.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await watch.silent.wait()
    except TimeoutError:
        raise TimedOutError(f"{argv[0]} did not end within {limit_s:g} s and was ended") from None
    finally:
        if not watch.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await watch.exited.wait()
        transport.close()
    out, err = (bytes(part).decode(errors="replace") for part in watch.kept.values())
    return Ran(transport.get_returncode() or 0, out, err)
