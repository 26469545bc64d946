"""Process tool: processes of this machine, with metrics, a restart command and an allow-list of signals."""

import asyncio
import shlex
import signal
from collections.abc import Mapping, Sequence

from trimtab.engine.errors import (
    NotFoundError,
    RefusedError,
    ToolError,
    ToolUncertainError,
)
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.service_tools import ProcessTool, WatchedProcess
from trimtab.engine.tools.command_runner import CommandTimeoutError, run_command
from trimtab.engine.tools.process.process_lookup import (
    ProcessIdentity,
    ProcessNotRunningError,
    find_process,
    is_running,
    read_metrics,
    send_signal,
)
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    MemoryOutlook,
    Risk,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
)

RESTART_BUDGET_S = 25.0
"""Time for a restart, seconds: the command, and until the new process runs."""
POLL_INTERVAL_S = 0.1
SIGNALS = {
    "hup": (signal.SIGHUP, "Make the process reload its configuration (SIGHUP).", Risk.LOW),
    "usr1": (signal.SIGUSR1, "Send SIGUSR1; the program defines its effect.", Risk.LOW),
    "usr2": (signal.SIGUSR2, "Send SIGUSR2; the program defines its effect.", Risk.MEDIUM),
    "term": (
        signal.SIGTERM,
        "End the process (SIGTERM) and wait for its exit; it is never killed.",
        Risk.HIGH,
    ),
}


class Process:
    """Tool for the processes of the settings; each one is a target."""

    def __init__(self, name: str, settings: ProcessTool) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._action_lock = asyncio.Lock()

    async def status(self) -> ToolStatus:
        """Return UP with the processes that run; this machine can always be read. Raises nothing."""
        details = []
        for target in self.targets:
            try:
                found = await asyncio.to_thread(find_process, target, self._settings.processes[target])
                details.append(f"{target}: process {found.pid}")
            except (NotFoundError, RefusedError, ToolError) as error:
                details.append(str(error))
        return ToolStatus(ToolState.UP, "; ".join(details))

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Return metrics by the names of process-exporter; a stopped process has only a count of 0."""
        wanted = self._target_settings(target)
        try:
            return await asyncio.to_thread(lambda: read_metrics(find_process(target, wanted)))
        except ProcessNotRunningError:
            return {"namedprocess_namegroup_num_procs": 0.0}

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return an empty tuple: processes have no knobs."""
        self._target_settings(target)
        return ()

    async def read(self, target: str, knob: str) -> KnobReading:
        """Raise NotFoundError: processes have no knobs."""
        self._target_settings(target)
        raise NotFoundError(f"{target} is a process, it has no knob {knob!r}")

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - required by the port
        """Raise NotFoundError: processes have no knobs."""
        self._target_settings(target)
        raise NotFoundError(f"{target} is a process, it has no knob {knob!r}")

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - required by the port
        """Return None: the effect on memory is unknown."""
        return None

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return `restart` when a command is configured, and the allowed signals."""
        wanted = self._target_settings(target)
        allowed = [name for name in SIGNALS if name.upper() in wanted.signals]
        found = [
            ToolAction(
                name, SIGNALS[name][1], SIGNALS[name][2], reduces=name == "term", idempotent=name == "hup"
            )
            for name in allowed
        ]
        if wanted.restart:
            command = redact_text(shlex.join(wanted.restart))
            found.insert(0, ToolAction("restart", f"Run: {command}", Risk.MEDIUM))
        return tuple(found)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - a process takes no key
        """Run an action. Raises NotFoundError, RefusedError, ConflictError, ToolError, ToolUncertainError."""
        if target not in self.targets:
            raise RefusedError(f"{target!r} is not one of tools.{self.name}.targets; nothing was done")
        wanted = self._target_settings(target)
        if action not in {allowed.name for allowed in await self.actions(target)}:
            raise RefusedError(
                f"{action!r} is not allowed for {target}; add it to its signals, or set restart"
            )
        async with self._action_lock:
            if action == "restart":
                return await self._restart(target, wanted)
            return await self._signal(target, wanted, action)

    async def _signal(self, target: str, wanted: WatchedProcess, action: str) -> str:
        number = SIGNALS[action][0]
        found = await asyncio.to_thread(find_process, target, wanted)
        await asyncio.to_thread(send_signal, target, found, number)
        if action != "term":
            return f"{number.name} sent to process {found.pid}"
        if not await self._wait_until_gone(found, wanted.stop_timeout):
            raise ToolUncertainError(
                f"{target}: process {found.pid} still runs {wanted.stop_timeout:g} s after SIGTERM"
            )
        return f"process {found.pid} has ended"

    async def _wait_until_gone(self, identity: ProcessIdentity, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while await asyncio.to_thread(is_running, identity):  # noqa: ASYNC110 - only a parent is notified
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            return False
        return True

    async def _restart(self, target: str, wanted: WatchedProcess) -> str:
        before = await self._find_running(target, wanted)
        try:
            async with asyncio.timeout(RESTART_BUDGET_S):
                await self._run_restart_command(target, wanted, before)
                after = await self._wait_for_new_process(target, wanted, before)
        except TimeoutError:
            raise ToolUncertainError(
                f"{target}: the restart command has ended, but no new process appeared within "
                f"{RESTART_BUDGET_S:g} s"
            ) from None
        was = "none" if before is None else str(before.pid)
        return f"restarted: process {was} -> {after.pid}"

    async def _run_restart_command(
        self, target: str, wanted: WatchedProcess, before: ProcessIdentity | None
    ) -> None:
        try:
            result = await run_command(wanted.restart, RESTART_BUDGET_S - 1.0)
        except CommandTimeoutError as error:
            raise ToolUncertainError(f"{target}: {error}") from error
        if result.exit_code == 0:
            return
        output = redact_text(result.output_tail())
        what = f"{target}: {wanted.restart[0]} ended with exit code {result.exit_code}: {output}"
        if before is not None and await asyncio.to_thread(is_running, before):
            raise ToolError(f"{what}; process {before.pid} still runs")
        raise ToolUncertainError(what)

    async def _wait_for_new_process(
        self, target: str, wanted: WatchedProcess, before: ProcessIdentity | None
    ) -> ProcessIdentity:
        while True:
            try:
                found = await self._find_running(target, wanted)
            except ToolError:
                found = None  # during a restart the old and the new process may both match
            if found is not None and found != before:
                return found
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _find_running(self, target: str, wanted: WatchedProcess) -> ProcessIdentity | None:
        try:
            return await asyncio.to_thread(find_process, target, wanted)
        except ProcessNotRunningError:
            return None

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - a process has no values
        """Return a shell command that does the same."""
        wanted = self._target_settings(target)
        if subject == "restart":
            return shlex.join(wanted.restart)
        name = subject.upper()
        if wanted.pid_file is not None:
            return f'kill -{name} "$(cat {shlex.quote(str(wanted.pid_file))})"'
        pattern = shlex.quote(wanted.command) if wanted.command else f"-x {shlex.quote(wanted.name or '')}"
        return f"pkill -{name} {'-f ' if wanted.command else ''}{pattern}"

    def grant(self) -> str:
        """Return the rights that are needed: a process accepts signals only from its own user and root."""
        return (
            "# Processes accept signals from their own user (and root): run Trimtab as the user of these:\n"
            + "".join(f"#   {target}\n" for target in self.targets)
            + "# A restart by a service manager needs a rule for that command, for example in sudoers:\n"
            "#   trimtab ALL=(root) NOPASSWD: /usr/bin/systemctl restart NAME.service\n"
        )

    async def close(self) -> None:
        """Do nothing: the tool holds no resources."""

    def _target_settings(self, target: str) -> WatchedProcess:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")
        return self._settings.processes[target]
