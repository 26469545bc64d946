"""Redis tool: memory, eviction and background work by CONFIG SET, which lasts until Redis restarts."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.data_store_tools import CacheWarmingSettings, RedisTool
from trimtab.engine.tools.cache_warming import (
    CacheMissRate,
    OriginResponses,
    allowed_request_rate,
    probe_origin,
    warm_cache,
)
from trimtab.engine.tools.memory_budget import (
    MemoryBudget,
    MemoryProjection,
    find_memory_budget,
    format_bytes,
)
from trimtab.engine.tools.redis import redis_knobs
from trimtab.engine.tools.redis.redis_connection import RedisConnection
from trimtab.engine.tools.redis.redis_metrics import metrics_from_info
from trimtab.engine.tools.server_access import DeniedError, ExportOnlyError
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    Lasts,
    MemoryOutlook,
    Risk,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
    WarmingLoad,
)

PURGE_ACTION = ToolAction(
    "memory_purge", "Return memory held by the allocator to the system.", Risk.LOW, idempotent=True
)
WARM_ACTION = ToolAction(
    "warm_keys", "Fetch the configured keys that are missing, through the service that fills the cache.",
    Risk.LOW, idempotent=True,
)  # fmt: skip
_ACL_RULES = "resetkeys resetchannels -@all +select +info +config|get +config|set +memory|purge"
_CHANGE_PROBE = ("CONFIG SET", "trimtab-probe", "1")
"""Sets a parameter that does not exist, so nothing changes: the error shows whether changes are allowed."""


class Redis:
    """Tool for one Redis or compatible server. It connects on first use.

    CONFIG SET has no compare-and-set: another client could change the value right after it was read.
    """

    def __init__(self, name: str, settings: RedisTool) -> None:
        self.name = name
        self.settings = settings
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._connection = RedisConnection(name, settings)
        self._change_lock = asyncio.Lock()
        self._change_probe_result: tuple[str, str] = ("", "")
        """Run id of the server, and why it refuses changes; "" = it allows them."""
        self._origin_responses = OriginResponses()
        self._miss_rate = CacheMissRate()

    async def status(self) -> ToolStatus:
        """Return the server's state. Raises nothing."""
        try:
            info = await self._read_info()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        version = _version(info)
        try:
            why = await self._change_refusal(info)
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error), version)
        if why:
            detail = f"it allows no changes ({why}); changes are written out as lines of redis.conf"
            return ToolStatus(ToolState.EXPORT_ONLY, detail, version)
        return ToolStatus(
            ToolState.UP, f"{self._connection.address}, {info.get('role', 'role unknown')}", version
        )

    async def metrics(self, target: str) -> Mapping[str, float]:  # noqa: ARG002 - one server has one target
        """Return metrics by the names of redis_exporter. Raises ToolError."""
        info = await self._read_info()
        self._miss_rate.record(_loop_time_s(), info.get("keyspace_misses"))
        return metrics_from_info(info)

    async def knobs(self, target: str) -> tuple[Knob, ...]:  # noqa: ARG002 - as above
        """Return the knobs of the allow-list that this server has. Raises ToolError."""
        info = await self._read_info()
        found = await self._read_values(info)
        budget, has_snapshots = await self._memory_budget(info), await self._has_snapshots()
        return tuple(
            redis_knobs.bound_maxmemory(info, budget, has_snapshots=has_snapshots)
            if name == "maxmemory"
            else redis_knobs.KNOB_SPECS[name].knob
            for name, value in found.items()
            if value is not None
        )

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - as above
        """Return a knob's current value. Redis' own default counts as not set."""
        self._require_known_knob(knob)
        info = await self._read_info()
        value = await self._read_value(knob, info)
        note = str(await self._project_memory(info, int(value or 0))) if knob == "maxmemory" and value else ""
        if knob == "maxmemory":
            note = f"{format_bytes(info.get('used_memory', 0))} are in use" + (f"; {note}" if note else "")
        return KnobReading(value, value != redis_knobs.KNOB_SPECS[knob].default, Lasts.UNTIL_RESTART, note)

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """Set and read back. The change lasts until Redis restarts; the result has the line for redis.conf.

        Raises ConflictError, RefusedError with the memory projection, ToolError, ToolUncertainError.
        """
        async with self._change_lock:
            self._require_known_knob(knob)
            info = await self._read_info()
            now = await self._read_value(knob, info)
            if now != before:
                raise ConflictError(
                    f"{self.name}: {knob} is {now!r}, not {before!r}: it was changed; nothing was done"
                )
            redis_knobs.refuse_unrestorable(knob, now)
            wanted = (
                redis_knobs.KNOB_SPECS[knob].default
                if after is None
                else redis_knobs.validate_value(knob, after)
            )
            await self._refuse_unsafe(info, knob, now, wanted, resets=after is None)
            text = redis_knobs.format_value(knob, wanted)
            await self._set_value(knob, text)
            await self._verify_value(knob, wanted)
            warning = redis_knobs.eviction_warning(info, int(text)) if knob == "maxmemory" else ""
            line = (f"# {warning}\n" if warning else "") + f"{knob} {text}"
            return AppliedChange(before, wanted, Lasts.UNTIL_RESTART, line)

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - as above
        """Return the projected memory use of a maxmemory; None for other knobs. Raises ToolError."""
        if knob != "maxmemory" or not isinstance(after, int | float):
            return None
        return (await self._project_memory(await self._read_info(), int(after))).as_outlook

    async def actions(self, target: str) -> tuple[ToolAction, ...]:  # noqa: ARG002 - as above
        """Return `memory_purge`, and `warm_keys` when keys are configured."""
        return (PURGE_ACTION, WARM_ACTION) if self.settings.warm else (PURGE_ACTION,)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - Redis takes no key
        """Run an action. Raises NotFoundError, RefusedError, ToolError, ToolUncertainError."""
        if action == PURGE_ACTION.name:
            return await self._purge()
        if action == WARM_ACTION.name and self.settings.warm:
            return await self._warm(self.settings.warm)
        raise NotFoundError(
            f"{self.name} has no action {action!r}; it has {PURGE_ACTION.name}, and {WARM_ACTION.name} when "
            f"tools.{self.name}.warm names keys"
        )

    async def warming_load(self, target: str) -> WarmingLoad | None:  # noqa: ARG002 - as above
        """Return the load that warming puts on the origin, and its error ratio, probing it if necessary.

        None when no keys are configured. Raises RefusedError when the allowed rate is too small, ToolError.
        """
        settings = self.settings.warm
        if settings is None:
            return None
        origin_rate = await self._origin_rate(settings)
        rate = allowed_request_rate(self.name, origin_rate, settings.rate)
        if self._origin_responses.error_ratio(_loop_time_s()) is None:
            await probe_origin(self.name, settings, rate, self._origin_responses)
        return WarmingLoad(rate, origin_rate, self._origin_responses.error_ratio(_loop_time_s()))

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - as above
        """Return a redis-cli command that does the same."""
        client = f"redis-cli -u {shlex.quote(self.settings.url)}"
        if subject == PURGE_ACTION.name:
            return f"{client} MEMORY PURGE"
        if subject == WARM_ACTION.name and self.settings.warm:
            keys = self.settings.warm.keys_file or " ".join(map(shlex.quote, self.settings.warm.keys))
            return f"curl -s -o /dev/null {shlex.quote(self.settings.warm.url)}   # for each key of {keys}"
        self._require_known_knob(subject)
        return f"{client} CONFIG SET {subject} {redis_knobs.format_value(subject, after)}"

    def grant(self) -> str:
        """Return the ACL of a least-privileged user."""
        user, warm = self.settings.username or "trimtab", self.settings.warm
        keys = f" +exists '~{warm.key.replace('{key}', '*')}'" if warm else ""
        return (
            f"# For redis-cli. CONFIG SET cannot be limited to single parameters; Trimtab sends it for\n"
            f"# {', '.join(redis_knobs.KNOB_SPECS)} only.\n"
            f"ACL SETUSER {user} on '>CHANGE-THIS-PASSWORD' {_ACL_RULES}{keys}\n"
            "# Then save it: ACL SAVE if there is an aclfile, else add this line to redis.conf:\n"
            f"# user {user} on >CHANGE-THIS-PASSWORD {_ACL_RULES}{keys}\n"
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def _read_info(self) -> redis_knobs.RedisInfo:
        info: dict[str, Any] = await self._connection.query("INFO")
        if "redis_version" not in info and "used_memory" not in info:
            raise ToolError(
                f"{self.name}: {self._connection.address} answered INFO incompletely; it is ignored"
            )
        return info

    async def _read_values(self, info: redis_knobs.RedisInfo) -> dict[str, Value]:
        """Return the value of every knob; None = unknown, or the server does not have it."""
        answers = await self._connection.query_all([("CONFIG GET", name) for name in redis_knobs.KNOB_SPECS])
        found: dict[str, Value] = {}
        for name, answer in zip(redis_knobs.KNOB_SPECS, answers, strict=True):
            found[name] = redis_knobs.value_from_info(name, info)
            if isinstance(answer, Mapping) and name in answer:
                found[name] = redis_knobs.parse_value(name, answer[name])
        return found

    async def _read_value(self, knob: str, info: redis_knobs.RedisInfo) -> Value:
        try:
            answer = await self._connection.query("CONFIG GET", knob)
        except (DeniedError, ExportOnlyError):
            value = redis_knobs.value_from_info(knob, info)
            if value is None:
                raise
            return value
        if knob not in answer:
            raise NotFoundError(f"{self.name}: Redis {_version(info)} has no {knob}")
        return redis_knobs.parse_value(knob, answer[knob])

    async def _change_refusal(self, info: redis_knobs.RedisInfo) -> str:
        """Return why changes are refused; "" when they are allowed. Probed once per start of the server."""
        run_id = str(info.get("run_id", ""))
        if self._change_probe_result[0] != run_id or not run_id:
            (answer,) = await self._connection.query_all([_CHANGE_PROBE])
            text = str(answer)
            allowed = "trimtab-probe" in text or "Unknown option" in text or "Unsupported CONFIG" in text
            refused = "unknown command" in text or "NOPERM" in text or "permission" in text
            self._change_probe_result = (run_id, text if refused or not allowed else "")
        return self._change_probe_result[1]

    async def _set_value(self, knob: str, text: str) -> None:
        try:
            await self._connection.execute("CONFIG SET", knob, text)
        except (DeniedError, ExportOnlyError) as error:
            raise RefusedError(
                f"{error}; nothing was changed. Write this into redis.conf or your provider's settings: "
                f"{knob} {text}"
            ) from None

    async def _verify_value(self, knob: str, wanted: Value) -> None:
        try:
            now = redis_knobs.parse_value(knob, (await self._connection.query("CONFIG GET", knob))[knob])
        except ToolError as error:
            raise ToolUncertainError(f"{knob} was acknowledged but could not be read back: {error}") from None
        if now != wanted:
            raise ToolUncertainError(f"{self.name}: {knob} reads {now!r} after it was set to {wanted!r}")

    async def _refuse_unsafe(
        self, info: redis_knobs.RedisInfo, knob: str, now: Value, wanted: Value, *, resets: bool
    ) -> None:
        if knob == "maxmemory-policy" and not resets:
            redis_knobs.refuse_unsafe_policy(info, str(now), str(wanted))
        if knob != "maxmemory" or now == 0 or resets:
            return
        if wanted == 0:
            raise RefusedError(f"{self.name}: maxmemory 0 means no limit; give a limit")
        if int(str(wanted)) > int(str(now)):
            projection = await self._project_memory(info, int(str(wanted)))
            if not projection.fits:
                size = format_bytes(int(str(wanted)))
                raise RefusedError(
                    f"{self.name}: maxmemory {size} is refused: {self._explain_projection(projection)}"
                )

    def _explain_projection(self, projection: MemoryProjection) -> str:
        hint = f"; set tools.{self.name}.memory_limit" if projection.budget.limit_bytes is None else ""
        return f"{projection}{hint}"

    async def _project_memory(self, info: redis_knobs.RedisInfo, maxmemory: int) -> MemoryProjection:
        return redis_knobs.project_memory(
            info, maxmemory, await self._memory_budget(info), has_snapshots=await self._has_snapshots()
        )

    async def _has_snapshots(self) -> bool:
        """Return whether snapshots are configured; True when that is unknown."""
        try:
            answer = await self._connection.query("CONFIG GET", "save")
        except (DeniedError, ExportOnlyError):
            return True
        return bool(answer.get("save", "unknown"))

    async def _memory_budget(self, info: redis_knobs.RedisInfo) -> MemoryBudget:
        start_time_s = info.get("server_time_usec", 0) / 1e6 - info.get("uptime_in_seconds", 0)
        pid = info.get("process_id")
        used_bytes = int(info.get("used_memory_rss", 0))
        return await asyncio.to_thread(
            find_memory_budget, pid, start_time_s, used_bytes, self.settings.memory_limit
        )

    async def _purge(self) -> str:
        before = (await self._read_info()).get("used_memory_rss", 0)
        await self._connection.execute("MEMORY PURGE")
        after = (await self._read_info()).get("used_memory_rss", 0)
        return f"resident memory went from {format_bytes(before)} to {format_bytes(after)}"

    async def _warm(self, settings: CacheWarmingSettings) -> str:
        rate = allowed_request_rate(self.name, await self._origin_rate(settings), settings.rate)
        return str(await warm_cache(self.name, settings, rate, self._has_key, self._origin_responses))

    async def _has_key(self, key: str) -> bool:
        return bool(await self._connection.query("EXISTS", key))

    async def _origin_rate(self, settings: CacheWarmingSettings) -> float:
        """Return the origin's requests/s: as configured, else the cache misses over 1 to 60 s.

        Raises ToolError when the misses are unknown.
        """
        if settings.origin_rate is not None:
            return settings.origin_rate
        await self.metrics("")
        if self._miss_rate.per_second() is None:
            await asyncio.sleep(1.0)
            await self.metrics("")
        rate = self._miss_rate.per_second()
        if rate is None:
            raise ToolError(
                f"{self.name}: {self._connection.address} does not report its misses; set warm.origin_rate"
            )
        return rate

    def _require_known_knob(self, knob: str) -> None:
        if knob not in redis_knobs.KNOB_SPECS:
            raise NotFoundError(
                f"{self.name} has no knob {knob!r}; it has {', '.join(redis_knobs.KNOB_SPECS)}"
            )


def _version(info: redis_knobs.RedisInfo) -> str:
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', 'of unknown version')}"


def _loop_time_s() -> float:
    return asyncio.get_running_loop().time()
