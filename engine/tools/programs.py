"""Programs that a tool starts: an argument list, never a shell; one total deadline; bounded output."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.engine.errors import ToolError

MAX_OUTPUT_BYTES = 16 * 2**20
_SHOWN = 300
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


async def run_program(
    argv: Sequence[str], limit_s: float, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ran:
    """Run it to its end. It sees none of our own variables, no input, and is the head of its own group.

    What it leaves running in the background (a daemon) may live on. Raises ToolError where it cannot be
    started, TimedOutError.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, env={**inherited, **(environ or {})}, cwd=cwd, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot start {argv[0]}: {error}; write its whole path") from error
    try:
        async with asyncio.timeout(limit_s):
            return await _until_it_ends(child)
    except TimeoutError:
        raise TimedOutError(f"{argv[0]} did not end within {limit_s:g} s and was ended") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def _until_it_ends(child: asyncio.subprocess.Process) -> Ran:
    """Its output is read until it ends: a daemon that it leaves behind may hold the pipes open for ever."""
    readers = [asyncio.create_task(_bounded(stream)) for stream in (child.stdout, child.stderr)]
    try:
        code = await child.wait()
        await asyncio.wait(readers, timeout=0.5)
    finally:
        for reader in readers:
            reader.cancel()
        parts = await asyncio.gather(*readers, return_exceptions=True)
    out, err = (part if isinstance(part, str) else "" for part in parts)
    return Ran(code, out, err)


async def _bounded(stream: asyncio.StreamReader | None) -> str:
    """What comes, without its middle where it is over the limit."""
    kept = bytearray()
    try:
        while stream is not None and (piece := await stream.read(65_536)):
            if len(kept) < MAX_OUTPUT_BYTES:
                kept += piece
    except asyncio.CancelledError:
        return kept.decode(errors="replace")
    return kept.decode(errors="replace")
