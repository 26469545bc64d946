"""PM2 tool: the applications of the user's PM2, through the pm2 command.

The command runs only while the daemon runs, because `pm2 jlist` would start one. The output of `jlist`
contains the applications' environment, so it is never shown or logged.
"""

import asyncio
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.service_tools import Pm2Tool
from trimtab.engine.tools.command_runner import CommandTimeoutError, run_command
from trimtab.engine.tools.memory_budget import find_memory_budget
from trimtab.engine.tools.pm2.pm2_processes import Pm2Application, check_daemon, parse_applications
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    MemoryOutlook,
    Risk,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
)

CHANGE_BUDGET_S = 28.0
"""Time for a change or an action, seconds, with the reads before and after it."""
MIN_MEMORY_LIMIT_BYTES = 32 * 2**20
MEMORY_HEADROOM_RATIO = 1.2
"""Least ratio of a memory limit to the largest instance's use; below it PM2 would restart at once."""
_BUSY_TEXT = "already in progress"


class Pm2:
    """Tool for the applications of one PM2; their names are its targets.

    now : returns the time in nanoseconds UTC
    """

    def __init__(self, name: str, settings: Pm2Tool, now: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._now = now
        self._change_lock = asyncio.Lock()

    @property
    def _home(self) -> Path:
        return (self._settings.home or Path("~/.pm2")).expanduser()

    async def status(self) -> ToolStatus:
        """Return UP when the daemon answers. Raises nothing."""
        try:
            found = await self._read_applications()
        except PermissionError as error:
            detail = f"{self._home}: {error.strerror}; run Trimtab as the user that PM2 runs as"
            return ToolStatus(ToolState.DENIED, detail)
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        details = [self._describe_application(name, found.get(name)) for name in self.targets]
        version = next((app.version for app in found.values()), "")
        return ToolStatus(ToolState.UP, "; ".join(details), version)

    @staticmethod
    def _describe_application(name: str, app: Pm2Application | None) -> str:
        if app is None:
            return f"PM2 has no application {name}"
        return f"{name}: {app.online_count} of {len(app.instances)} online"

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Return memory, CPU, restarts, uptime and instance counts. Raises NotFoundError, ToolError."""
        return (await self._read_application(target)).metrics(self._now())

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return `max_memory_restart`, and `instances` in cluster mode, where instances share the port."""
        app = await self._read_application(target)
        memory = Knob(
            "max_memory_restart", KnobType.INT, "bytes", MIN_MEMORY_LIMIT_BYTES,
            self._max_memory_limit_bytes(app),
            restart_needed=not app.is_cluster, group=target,
            help="PM2 reloads an instance above this limit. Setting it reloads the application.",
        )  # fmt: skip
        if not app.is_cluster:
            return (memory,)
        most = self._settings.max_instances or os.cpu_count() or 1
        instances = Knob(
            "instances", KnobType.INT, "instances", 1, max(most, 1), step=1, group=target,
            help="Worker processes that share the application's port.",
        )  # fmt: skip
        return (instances, memory)

    def _max_memory_limit_bytes(self, app: Pm2Application) -> int:
        total = self._settings.memory_limit or psutil.virtual_memory().total
        return int(total) // max(1, len(app.instances))

    async def read(self, target: str, knob: str) -> KnobReading:
        """Return a knob's current value. Raises NotFoundError, ToolError."""
        app = await self._read_application(target)
        value, note = self._knob_value(app, knob)
        return KnobReading(value, value is not None, Lasts.UNTIL_RESTART, note)

    def _knob_value(self, app: Pm2Application, knob: str) -> tuple[int | None, str]:
        if knob == "instances" and app.is_cluster:
            return len(app.instances), f"{app.online_count} of them online"
        if knob == "max_memory_restart":
            limits = {instance.limit_bytes for instance in app.instances}
            if len(limits) > 1:
                raise ToolError(
                    f"instances of {app.name} have different memory limits; reload it once by hand"
                )
            return next(iter(limits)), f"the largest uses {app.largest_memory_bytes:.0f} bytes"
        raise NotFoundError(f"{app.name} has no knob {knob!r}; only cluster mode has instances")

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Compare, set, read back. PM2 has no compare-and-set, so another change may happen in between.

        Raises ConflictError, RefusedError, ToolError, ToolUncertainError.
        """
        self._require_permitted_target(target)
        started_s = time.monotonic()
        async with self._change_lock:
            app = await self._read_application(target)
            value, _ = self._knob_value(app, knob)
            if value != before or isinstance(before, bool):
                raise ConflictError(f"{knob} of {target} is {value}, not {before!r}; nothing was changed")
            self._check_value(app, knob, after)
            arguments = self._change_arguments(target, knob, after)
            await self._run_pm2(arguments, self._command_timeout_s(started_s))
            read, _ = self._knob_value(await self._read_back(target), knob)
        if read != after:
            raise ToolUncertainError(f"{knob} of {target} was set to {after} and reads {read}")
        return AppliedChange(before, after, Lasts.UNTIL_RESTART, self._permanent_command(knob, after))

    def _check_value(self, app: Pm2Application, knob: str, after: Value) -> None:
        if after is None and knob == "max_memory_restart":
            return
        if isinstance(after, bool) or not isinstance(after, int):
            raise RefusedError(f"{knob} of {app.name} must be a whole number, not {after!r}")
        most = self._settings.max_instances or os.cpu_count() or 1
        low, high = (
            (1, most) if knob == "instances" else (MIN_MEMORY_LIMIT_BYTES, self._max_memory_limit_bytes(app))
        )
        if not low <= after <= high:
            raise RefusedError(f"{knob} of {app.name} must be {low} to {high}, not {after}")
        if knob == "max_memory_restart" and after < MEMORY_HEADROOM_RATIO * app.largest_memory_bytes:
            raise RefusedError(
                f"{after} bytes for {app.name} is less than {MEMORY_HEADROOM_RATIO:g} x "
                f"{app.largest_memory_bytes:.0f}, which its largest instance uses: PM2 would restart it"
            )

    @staticmethod
    def _change_arguments(target: str, knob: str, after: Value) -> list[str]:
        if knob == "instances":
            return ["scale", target, str(after)]
        return ["reload", target, "--max-memory-restart", str(after or 0)]

    @staticmethod
    def _permanent_command(knob: str, after: Value) -> str:
        return f"pm2 save; and in ecosystem.config.cjs: {knob}: {0 if after is None else after}"

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """Return the use when each instance takes its limit, or as much as the largest instance now.

        None when it is unknown. Raises NotFoundError, ToolError.
        """
        if knob not in {"instances", "max_memory_restart"} or isinstance(after, bool | str | None):
            return None
        app = await self._read_application(target)
        limit = max((i.limit_bytes or 0 for i in app.instances), default=0)
        each = after if knob == "max_memory_restart" else limit or app.largest_memory_bytes
        count = after if knob == "instances" else len(app.instances)
        running = next((i for i in app.instances if i.is_online and i.started_ms is not None), None)
        if each == 0 or running is None:
            return None
        used_bytes = round(sum(i.memory_bytes or 0.0 for i in app.instances))
        start_time_s = (running.started_ms or 0) / 1000
        budget = await asyncio.to_thread(
            find_memory_budget, running.pid, start_time_s, used_bytes, self._settings.memory_limit
        )
        instances = (f"{count:g} instances of {app.name}", float(count * each))
        return MemoryOutlook(budget.limit_bytes, (instances, ("others", float(budget.others_bytes))))

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return `reload` and `restart`. Raises NotFoundError, ToolError."""
        risk, gap = Risk.LOW, ""
        if not (await self._read_application(target)).is_cluster:
            risk, gap = Risk.MEDIUM, "; a single instance in fork mode is unavailable meanwhile"
        return (
            ToolAction("reload", f"Replace the instances one by one{gap}.", risk, idempotent=True),
            ToolAction(
                "restart", "Stop and start all instances; requests are lost.", Risk.MEDIUM, idempotent=True
            ),
        )

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - PM2 takes no key
        """Run an action and verify it. Raises NotFoundError, RefusedError, ToolError, ToolUncertainError."""
        self._require_permitted_target(target)
        if action not in {"reload", "restart"}:
            raise NotFoundError(f"{target} has no action {action!r}; it has reload, restart")
        started_s = time.monotonic()
        async with self._change_lock:
            before = await self._read_application(target)
            await self._run_pm2([action, target], self._command_timeout_s(started_s))
            after = await self._read_back(target)
        old = before.pids & after.pids
        if after.online_count < len(before.instances) or old:
            raise ToolUncertainError(
                f"{action} of {target}: {after.online_count} of {len(before.instances)} instances are "
                f"online, {len(old)} of them were not replaced"
            )
        pids = f"pids {_join_pids(before.pids)} -> {_join_pids(after.pids)}"
        return f"{action} of {target}: {after.online_count} instances, {pids}"

    def command(self, target: str, subject: str, after: Value) -> str:
        """Return a shell command that does the same."""
        is_action = subject in {"reload", "restart"}
        arguments = [subject, target] if is_action else self._change_arguments(target, subject, after)
        return f"PM2_HOME={shlex.quote(str(self._home))} {shlex.join([*self._settings.command, *arguments])}"

    def grant(self) -> str:
        """Return how to give access: PM2 has no accounts, only the permissions of its socket."""
        return (
            f"# Write access to {self._home}/rpc.sock gives full control of this PM2: run\n"
            f"# Trimtab as its user, or give the socket to that user's group:\n"
            f"chmod g+rw {shlex.quote(str(self._home))}/rpc.sock\n"
        )

    async def close(self) -> None:
        """Do nothing: the tool holds no resources."""

    async def _read_application(self, target: str) -> Pm2Application:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")
        try:
            found = await self._read_applications()
        except PermissionError as error:
            raise ToolError(
                f"{self.name}: {self._home}: {error.strerror}; run Trimtab as the user of PM2"
            ) from error
        if target not in found:
            raise NotFoundError(f"PM2 has no application {target!r}; it has {', '.join(found) or 'none'}")
        return found[target]

    async def _read_back(self, target: str) -> Pm2Application:
        """Return the application after a change; when it cannot be read the change is uncertain."""
        try:
            return await self._read_application(target)
        except (ToolError, NotFoundError) as error:
            raise ToolUncertainError(f"{target} cannot be read after the change: {error}") from error

    async def _read_applications(self) -> dict[str, Pm2Application]:
        """Return the applications by name. Raises ToolError, PermissionError."""
        await asyncio.to_thread(check_daemon, self._home / "rpc.sock", self.name)
        result = await run_command([*self._settings.command, "jlist"], self._settings.timeout, self._env)
        if result.exit_code != 0:
            raise ToolError(f"{self.name}: pm2 jlist ended with exit code {result.exit_code}")
        return parse_applications(result.stdout, self.name)

    def _command_timeout_s(self, started_s: float) -> float:
        """Return the time left for a command, less the time for reading back, seconds."""
        return CHANGE_BUDGET_S - (time.monotonic() - started_s) - self._settings.timeout

    async def _run_pm2(self, arguments: Sequence[str], timeout_s: float) -> None:
        what = f"{self.name}: pm2 {' '.join(arguments)}"
        if timeout_s <= 0:
            raise ToolError(f"{what}: earlier changes took all the time; nothing was done")
        try:
            result = await run_command([*self._settings.command, *arguments], timeout_s, self._env)
        except CommandTimeoutError as error:
            raise ToolUncertainError(f"{what}: {error}") from error
        if result.exit_code != 0 and _BUSY_TEXT in result.stdout + result.stderr:
            raise ToolError(f"{what}: another reload is in progress; nothing was done")
        if result.exit_code != 0:
            output = redact_text(result.output_tail())
            raise ToolUncertainError(f"{what} ended with exit code {result.exit_code}: {output}")

    @property
    def _env(self) -> dict[str, str]:
        return {"PM2_HOME": str(self._home), "NO_COLOR": "1"}

    def _require_permitted_target(self, target: str) -> None:
        if target not in self.targets:
            raise RefusedError(f"{target!r} is not one of tools.{self.name}.targets; nothing was done")


def _join_pids(pids: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(pids)))
