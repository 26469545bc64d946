"""A Redis: memory, eviction and background work by CONFIG SET, which lasts until it restarts."""

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
from trimtab.engine.tools.redis import redis_knobs as rules
from trimtab.engine.tools.redis.redis_connection import RedisConnection
from trimtab.engine.tools.redis.redis_metrics import metrics_from_info
from trimtab.engine.tools.refusals import DeniedError, ExportOnlyError
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
    "memory_purge", "Gives memory that the allocator holds back to the system.", Risk.LOW, idempotent=True
)
WARM_ACTION = ToolAction(
    "warm_keys", "Fetches the named keys that are missing, through the service that fills the cache.",
    Risk.LOW, idempotent=True,
)  # fmt: skip
_ACL_RULES = "resetkeys resetchannels -@all +select +info +config|get +config|set +memory|purge"
_CHANGE_PROBE = ("CONFIG SET", "trimtab-probe", "1")
"""There is no such parameter: who may set something is told so, who may not is refused. Nothing changes."""


class Redis:
    """The port Tool for one Redis, or what speaks like one. Opens its connection at the first call.

    CONFIG SET has no compare-and-set: in the millisecond after the reading somebody else could set.
    """

    def __init__(self, name: str, settings: RedisTool) -> None:
        self.name = name
        self.settings = settings
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._connection = RedisConnection(name, settings)
        self._change_lock = asyncio.Lock()
        self._change_probe_result: tuple[str, str] = ("", "")
        """Run id of the server, and why it lets nothing be set; "" = it does."""
        self._origin_responses = OriginResponses()
        self._miss_rate = CacheMissRate()

    async def status(self) -> ToolStatus:
        """How it does. Raises nothing."""
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
            detail = f"it lets nothing be set ({why}); changes are written down as lines of redis.conf"
            return ToolStatus(ToolState.EXPORT_ONLY, detail, version)
        return ToolStatus(
            ToolState.UP, f"{self._connection.address}, {info.get('role', 'role unknown')}", version
        )

    async def metrics(self, target: str) -> Mapping[str, float]:  # noqa: ARG002 - it is one server
        """Figures by the names of redis_exporter. Raises ToolError."""
        info = await self._read_info()
        self._miss_rate.record(_loop_time_s(), info.get("keyspace_misses"))
        return metrics_from_info(info)

    async def knobs(self, target: str) -> tuple[Knob, ...]:  # noqa: ARG002 - as above
        """Those of the allow-list that this server has. Raises ToolError."""
        info = await self._read_info()
        found = await self._read_values(info)
        room, saves = await self._memory_budget(info), await self._has_snapshots()
        return tuple(
            rules.bound_maxmemory(info, room, has_snapshots=saves)
            if name == "maxmemory"
            else rules.KNOB_SPECS[name].knob
            for name, value in found.items()
            if value is not None
        )

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - as above
        """The value now. A value that equals Redis' own default counts as not set by anybody."""
        self._require_known_knob(knob)
        info = await self._read_info()
        value = await self._read_value(knob, info)
        note = str(await self._project_memory(info, int(value or 0))) if knob == "maxmemory" and value else ""
        if knob == "maxmemory":
            note = f"{format_bytes(info.get('used_memory', 0))} are in use" + (f"; {note}" if note else "")
        return KnobReading(value, value != rules.KNOB_SPECS[knob].default, Lasts.UNTIL_RESTART, note)

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """Set, and read back. Lasts until Redis restarts; the line for redis.conf is in the answer.

        Raises ConflictError, RefusedError with the sum, ToolError, ToolUncertainError.
        """
        async with self._change_lock:
            self._require_known_knob(knob)
            info = await self._read_info()
            now = await self._read_value(knob, info)
            if now != before:
                raise ConflictError(
                    f"{self.name}: {knob} is {now!r}, not {before!r}: somebody changed it, nothing was done"
                )
            rules.refuse_unrestorable(knob, now)
            wanted = rules.KNOB_SPECS[knob].default if after is None else rules.validate_value(knob, after)
            await self._refuse_unsafe(info, knob, now, wanted, resets=after is None)
            text = rules.format_value(knob, wanted)
            await self._set_value(knob, text)
            await self._verify_value(knob, wanted)
            loss = rules.eviction_warning(info, int(text)) if knob == "maxmemory" else ""
            line = (f"# {loss}\n" if loss else "") + f"{knob} {text}"
            return AppliedChange(before, wanted, Lasts.UNTIL_RESTART, line)

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - as above
        """What memory would come to with that value; None = the knob has no part in it. Raises ToolError."""
        if knob != "maxmemory" or not isinstance(after, int | float):
            return None
        return (await self._project_memory(await self._read_info(), int(after))).as_outlook

    async def actions(self, target: str) -> tuple[ToolAction, ...]:  # noqa: ARG002 - as above
        """Give memory back; warm keys, where the settings say which."""
        return (PURGE_ACTION, WARM_ACTION) if self.settings.warm else (PURGE_ACTION,)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - as above; Redis takes no key
        """Do it. Raises NotFoundError, RefusedError, ToolError, ToolUncertainError."""
        if action == PURGE_ACTION.name:
            return await self._purge()
        if action == WARM_ACTION.name and self.settings.warm:
            return await self._warm(self.settings.warm)
        raise NotFoundError(
            f"{self.name} has no action {action!r}; it has {PURGE_ACTION.name}, and {WARM_ACTION.name} where "
            f"tools.{self.name}.warm names keys"
        )

    async def warming_load(self, target: str) -> WarmingLoad | None:  # noqa: ARG002 - as above
        """What warming would ask of the service behind it, and how that does: it is asked for a few keys.

        Raises RefusedError where it is asked for too little to be warmed beside that, ToolError.
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
        """The line of redis-cli."""
        client = f"redis-cli -u {shlex.quote(self.settings.url)}"
        if subject == PURGE_ACTION.name:
            return f"{client} MEMORY PURGE"
        if subject == WARM_ACTION.name and self.settings.warm:
            keys = self.settings.warm.keys_file or " ".join(map(shlex.quote, self.settings.warm.keys))
            return f"curl -s -o /dev/null {shlex.quote(self.settings.warm.url)}   # for each key of {keys}"
        self._require_known_knob(subject)
        return f"{client} CONFIG SET {subject} {rules.format_value(subject, after)}"

    def grant(self) -> str:
        """The ACL of a user who may do no more than Trimtab does."""
        user, warmed = self.settings.username or "trimtab", self.settings.warm
        keys = f" +exists '~{warmed.key.replace('{key}', '*')}'" if warmed else ""
        return (
            f"# For redis-cli. CONFIG SET cannot be narrowed to single parameters; Trimtab sends it for\n"
            f"# {', '.join(rules.KNOB_SPECS)} only.\n"
            f"ACL SETUSER {user} on '>CHANGE-THIS-PASSWORD' {_ACL_RULES}{keys}\n"
            "# Then keep it: ACL SAVE where there is an aclfile, else this as a line of redis.conf:\n"
            f"# user {user} on >CHANGE-THIS-PASSWORD {_ACL_RULES}{keys}\n"
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._connection.close()

    async def _read_info(self) -> rules.RedisInfo:
        info: dict[str, Any] = await self._connection.query("INFO")
        if "redis_version" not in info and "used_memory" not in info:
            raise ToolError(
                f"{self.name}: {self._connection.address} answered INFO only in part; it is left out"
            )
        return info

    async def _read_values(self, info: rules.RedisInfo) -> dict[str, Value]:
        """Every knob; None = this server does not have it, or does not tell."""
        answers = await self._connection.query_all([("CONFIG GET", name) for name in rules.KNOB_SPECS])
        found: dict[str, Value] = {}
        for name, answer in zip(rules.KNOB_SPECS, answers, strict=True):
            found[name] = rules.value_from_info(name, info)
            if isinstance(answer, Mapping) and name in answer:
                found[name] = rules.parse_value(name, answer[name])
        return found

    async def _read_value(self, knob: str, info: rules.RedisInfo) -> Value:
        try:
            answer = await self._connection.query("CONFIG GET", knob)
        except (DeniedError, ExportOnlyError):
            value = rules.value_from_info(knob, info)
            if value is None:
                raise
            return value
        if knob not in answer:
            raise NotFoundError(f"{self.name}: Redis {_version(info)} has no {knob}")
        return rules.parse_value(knob, answer[knob])

    async def _change_refusal(self, info: rules.RedisInfo) -> str:
        """Why nothing can be set; "" = it can. Asked once for each start of the server."""
        run = str(info.get("run_id", ""))
        if self._change_probe_result[0] != run or not run:
            (answer,) = await self._connection.query_all([_CHANGE_PROBE])
            text = str(answer)
            allowed = "trimtab-probe" in text or "Unknown option" in text or "Unsupported CONFIG" in text
            refused = "unknown command" in text or "NOPERM" in text or "permission" in text
            self._change_probe_result = (run, text if refused or not allowed else "")
        return self._change_probe_result[1]

    async def _set_value(self, knob: str, text: str) -> None:
        try:
            await self._connection.execute("CONFIG SET", knob, text)
        except (DeniedError, ExportOnlyError) as error:
            raise RefusedError(
                f"{error}; nothing was changed. Write this into redis.conf, or where the provider has it: "
                f"{knob} {text}"
            ) from None

    async def _verify_value(self, knob: str, wanted: Value) -> None:
        try:
            now = rules.parse_value(knob, (await self._connection.query("CONFIG GET", knob))[knob])
        except ToolError as error:
            raise ToolUncertainError(f"{knob} was acknowledged but could not be read back: {error}") from None
        if now != wanted:
            raise ToolUncertainError(f"{self.name}: {knob} reads {now!r} after it was set to {wanted!r}")

    async def _refuse_unsafe(
        self, info: rules.RedisInfo, knob: str, now: Value, wanted: Value, *, resets: bool
    ) -> None:
        if knob == "maxmemory-policy" and not resets:
            rules.refuse_unsafe_policy(info, str(now), str(wanted))
        if knob != "maxmemory" or now == 0 or resets:
            return
        if wanted == 0:
            raise RefusedError(f"{self.name}: maxmemory 0 is no limit at all; give one")
        if int(str(wanted)) > int(str(now)):
            seen = await self._project_memory(info, int(str(wanted)))
            if not seen.fits:
                raise RefusedError(
                    f"{self.name}: maxmemory {format_bytes(int(str(wanted)))} is refused: {self._explain_projection(seen)}"
                )

    def _explain_projection(self, seen: MemoryProjection) -> str:
        hint = f"; set tools.{self.name}.memory_limit" if seen.budget.limit_bytes is None else ""
        return f"{seen}{hint}"

    async def _project_memory(self, info: rules.RedisInfo, maxmemory: int) -> MemoryProjection:
        return rules.project_memory(
            info, maxmemory, await self._memory_budget(info), has_snapshots=await self._has_snapshots()
        )

    async def _has_snapshots(self) -> bool:
        """Whether snapshots are configured; True where it is not to be seen."""
        try:
            answer = await self._connection.query("CONFIG GET", "save")
        except (DeniedError, ExportOnlyError):
            return True
        return bool(answer.get("save", "unknown"))

    async def _memory_budget(self, info: rules.RedisInfo) -> MemoryBudget:
        started = info.get("server_time_usec", 0) / 1e6 - info.get("uptime_in_seconds", 0)
        here = info.get("process_id")
        used = int(info.get("used_memory_rss", 0))
        return await asyncio.to_thread(find_memory_budget, here, started, used, self.settings.memory_limit)

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
        """Requests/s: what the settings say, else what the cache misses, over a minute or at least a second.

        Raises ToolError.
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
                f"{self.name}: {self._connection.address} does not tell its misses; set warm.origin_rate"
            )
        return rate

    def _require_known_knob(self, knob: str) -> None:
        if knob not in rules.KNOB_SPECS:
            raise NotFoundError(f"{self.name} has no knob {knob!r}; it has {', '.join(rules.KNOB_SPECS)}")


def _version(info: rules.RedisInfo) -> str:
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', 'of unknown version')}"


def _loop_time_s() -> float:
    return asyncio.get_running_loop().time()
