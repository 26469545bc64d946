"""Runs model work in a child process, one at a time, so that ticks are never delayed."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from trimtab.engine.errors import EngineError

log = structlog.get_logger(__name__)

WORKER_MODULE = "trimtab.engine.forecasting.model_worker"
TIMEOUT_S = 4 * 3600.0
_MAX_LINE_BYTES = 1 << 22
ProgressListener = Callable[[Mapping[str, Any]], None]


class ModelProcessError(EngineError):
    """The child process failed. `kind` is the class name of its error; "" = it ended without a message."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class ModelProcess:
    """Starts a child process for a verb and reads its messages.

    make_request : returns the arguments of every call: settings file, overrides, discovered Prometheus
    environ      : environment of the child process
    """

    def __init__(self, make_request: Callable[[], Mapping[str, Any]], environ: Mapping[str, str]) -> None:
        self.make_request = make_request
        self.environ = dict(environ)
        self.current_verb = ""
        """Verb that runs now; "" = none."""
        self._lock = asyncio.Lock()

    async def __call__(
        self,
        verb: str,
        arguments: Mapping[str, Any] | None = None,
        on_progress: ProgressListener = lambda _: None,
    ) -> Mapping[str, Any]:
        """Run a verb and return its result; calls run one after another. Raises ModelProcessError.

        verb        : retrain, forecast or sync
        arguments   : additional arguments of this call
        on_progress : called with the run record each time it changes
        """
        async with self._lock:
            process = await self._start(verb)
            self.current_verb = verb
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._communicate(
                        process, {**self.make_request(), **(arguments or {})}, on_progress
                    )
            except TimeoutError:
                raise ModelProcessError(
                    f"{verb} took longer than {TIMEOUT_S / 3600:g} h and was stopped"
                ) from None
            finally:
                self.current_verb = ""
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _start(self, verb: str) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", WORKER_MODULE, verb, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=self.environ,
                limit=_MAX_LINE_BYTES, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ModelProcessError(f"cannot start the model process: {error}") from None

    async def _communicate(
        self, process: asyncio.subprocess.Process, request: Mapping[str, Any], on_progress: ProgressListener
    ) -> Mapping[str, Any]:
        assert process.stdin is not None  # noqa: S101 - all three are pipes
        assert process.stdout is not None  # noqa: S101 - as above
        assert process.stderr is not None  # noqa: S101 - as above
        process.stdin.write(json.dumps(request).encode() + b"\n")
        stderr_task = asyncio.create_task(process.stderr.read())
        message: Mapping[str, Any] = {}
        async for line in process.stdout:
            message = _parse_message(line) or message
            if "run" in message:
                on_progress(message["run"])
        errors = (await stderr_task).decode(errors="replace").strip().splitlines()
        await process.wait()
        if "error" in message:
            raise ModelProcessError(str(message["error"]), str(message.get("kind", "")))
        if "result" not in message:
            reason = errors[-1] if errors else f"exit code {process.returncode}"
            raise ModelProcessError(f"the model process ended without a result: {reason}")
        result: Mapping[str, Any] = message["result"]
        return result


def _parse_message(line: bytes) -> Mapping[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
