"""A Redis: memory, eviction and background work by CONFIG SET, which lasts until it restarts."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.data_store_tools import RedisTool, Warm
from trimtab.engine.tools.cache_warming import Misses, Origin, pace, probe, warm
from trimtab.engine.tools.memory_budget import Outlook, Room, room_of, sized
from trimtab.engine.tools.redis import redis_knobs as rules
from trimtab.engine.tools.redis.redis_connection import Link
from trimtab.engine.tools.redis.redis_metrics import figures
from trimtab.engine.tools.refusals import DeniedError, ExportOnlyError
from trimtab.engine.types import (
    Applied,
    Knob,
    KnobReading,
    Lasts,
    MemoryOutlook,
    Risk,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
    Warming,
)

PURGE = ToolAction(
    "memory_purge", "Gives memory that the allocator holds back to the system.", Risk.LOW, idempotent=True
)
WARM = ToolAction(
    "warm_keys", "Fetches the named keys that are missing, through the service that fills the cache.",
    Risk.LOW, idempotent=True,
)  # fmt: skip
_RIGHTS = "resetkeys resetchannels -@all +select +info +config|get +config|set +memory|purge"
_PROBE = ("CONFIG SET", "trimtab-probe", "1")
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
        self._link = Link(name, settings)
        self._changing = asyncio.Lock()
        self._probed: tuple[str, str] = ("", "")
        """Run id of the server, and why it lets nothing be set; "" = it does."""
        self._origin = Origin()
        self._missed = Misses()

    async def status(self) -> ToolStatus:
        """How it does. Raises nothing."""
        try:
            info = await self._info()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        version = _version(info)
        try:
            why = await self._forbidden(info)
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error), version)
        if why:
            detail = f"it lets nothing be set ({why}); changes are written down as lines of redis.conf"
            return ToolStatus(ToolState.EXPORT_ONLY, detail, version)
        return ToolStatus(ToolState.UP, f"{self._link.where}, {info.get('role', 'role unknown')}", version)

    async def metrics(self, target: str) -> Mapping[str, float]:  # noqa: ARG002 - it is one server
        """Figures by the names of redis_exporter. Raises ToolError."""
        info = await self._info()
        self._missed.note(_now_s(), info.get("keyspace_misses"))
        return figures(info)

    async def knobs(self, target: str) -> tuple[Knob, ...]:  # noqa: ARG002 - as above
        """Those of the allow-list that this server has. Raises ToolError."""
        info = await self._info()
        found = await self._values(info)
        room, saves = await self._room(info), await self._saves()
        return tuple(
            rules.bounded(info, room, saves=saves) if name == "maxmemory" else rules.SPECS[name].knob
            for name, value in found.items()
            if value is not None
        )

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - as above
        """The value now. A value that equals Redis' own default counts as not set by anybody."""
        self._known(knob)
        info = await self._info()
        value = await self._value(knob, info)
        note = str(await self._outlook(info, int(value or 0))) if knob == "maxmemory" and value else ""
        if knob == "maxmemory":
            note = f"{sized(info.get('used_memory', 0))} are in use" + (f"; {note}" if note else "")
        return KnobReading(value, value != rules.SPECS[knob].default, Lasts.UNTIL_RESTART, note)

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> Applied:  # noqa: ARG002 - as above
        """Set, and read back. Lasts until Redis restarts; the line for redis.conf is in the answer.

        Raises ConflictError, RefusedError with the sum, ToolError, ToolUncertainError.
        """
        async with self._changing:
            self._known(knob)
            info = await self._info()
            now = await self._value(knob, info)
            if now != before:
                raise ConflictError(
                    f"{self.name}: {knob} is {now!r}, not {before!r}: somebody changed it, nothing was done"
                )
            rules.refuse_foreign(knob, now)
            wanted = rules.SPECS[knob].default if after is None else rules.checked(knob, after)
            await self._refuse_unsafe(info, knob, now, wanted, resets=after is None)
            text = rules.written(knob, wanted)
            await self._set(knob, text)
            await self._check(knob, wanted)
            loss = rules.loss_of(info, int(text)) if knob == "maxmemory" else ""
            line = (f"# {loss}\n" if loss else "") + f"{knob} {text}"
            return Applied(before, wanted, Lasts.UNTIL_RESTART, line)

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - as above
        """What memory would come to with that value; None = the knob has no part in it. Raises ToolError."""
        if knob != "maxmemory" or not isinstance(after, int | float):
            return None
        return (await self._outlook(await self._info(), int(after))).plain

    async def actions(self, target: str) -> tuple[ToolAction, ...]:  # noqa: ARG002 - as above
        """Give memory back; warm keys, where the settings say which."""
        return (PURGE, WARM) if self.settings.warm else (PURGE,)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - as above; Redis takes no key
        """Do it. Raises NotFoundError, RefusedError, ToolError, ToolUncertainError."""
        if action == PURGE.name:
            return await self._purge()
        if action == WARM.name and self.settings.warm:
            return await self._warm(self.settings.warm)
        raise NotFoundError(
            f"{self.name} has no action {action!r}; it has {PURGE.name}, and {WARM.name} where "
            f"tools.{self.name}.warm names keys"
        )

    async def warming(self, target: str) -> Warming | None:  # noqa: ARG002 - as above
        """What warming would ask of the service behind it, and how that does: it is asked for a few keys.

        Raises RefusedError where it is asked for too little to be warmed beside that, ToolError.
        """
        settings = self.settings.warm
        if settings is None:
            return None
        origin_rate = await self._origin_rate(settings)
        rate = pace(self.name, origin_rate, settings.rate)
        if self._origin.errors(_now_s()) is None:
            await probe(self.name, settings, rate, self._origin)
        return Warming(rate, origin_rate, self._origin.errors(_now_s()))

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - as above
        """The line of redis-cli."""
        client = f"redis-cli -u {shlex.quote(self.settings.url)}"
        if subject == PURGE.name:
            return f"{client} MEMORY PURGE"
        if subject == WARM.name and self.settings.warm:
            keys = self.settings.warm.keys_file or " ".join(map(shlex.quote, self.settings.warm.keys))
            return f"curl -s -o /dev/null {shlex.quote(self.settings.warm.url)}   # for each key of {keys}"
        self._known(subject)
        return f"{client} CONFIG SET {subject} {rules.written(subject, after)}"

    def grant(self) -> str:
        """The ACL of a user who may do no more than Trimtab does."""
        user, warmed = self.settings.username or "trimtab", self.settings.warm
        keys = f" +exists '~{warmed.key.replace('{key}', '*')}'" if warmed else ""
        return (
            f"# For redis-cli. CONFIG SET cannot be narrowed to single parameters; Trimtab sends it for\n"
            f"# {', '.join(rules.SPECS)} only.\n"
            f"ACL SETUSER {user} on '>CHANGE-THIS-PASSWORD' {_RIGHTS}{keys}\n"
            "# Then keep it: ACL SAVE where there is an aclfile, else this as a line of redis.conf:\n"
            f"# user {user} on >CHANGE-THIS-PASSWORD {_RIGHTS}{keys}\n"
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._link.close()

    async def _info(self) -> rules.Info:
        info: dict[str, Any] = await self._link.ask("INFO")
        if "redis_version" not in info and "used_memory" not in info:
            raise ToolError(f"{self.name}: {self._link.where} answered INFO only in part; it is left out")
        return info

    async def _values(self, info: rules.Info) -> dict[str, Value]:
        """Every knob; None = this server does not have it, or does not tell."""
        answers = await self._link.ask_all([("CONFIG GET", name) for name in rules.SPECS])
        found: dict[str, Value] = {}
        for name, answer in zip(rules.SPECS, answers, strict=True):
            found[name] = rules.from_info(name, info)
            if isinstance(answer, Mapping) and name in answer:
                found[name] = rules.parsed(name, answer[name])
        return found

    async def _value(self, knob: str, info: rules.Info) -> Value:
        try:
            answer = await self._link.ask("CONFIG GET", knob)
        except (DeniedError, ExportOnlyError):
            value = rules.from_info(knob, info)
            if value is None:
                raise
            return value
        if knob not in answer:
            raise NotFoundError(f"{self.name}: Redis {_version(info)} has no {knob}")
        return rules.parsed(knob, answer[knob])

    async def _forbidden(self, info: rules.Info) -> str:
        """Why nothing can be set; "" = it can. Asked once for each start of the server."""
        run = str(info.get("run_id", ""))
        if self._probed[0] != run or not run:
            (answer,) = await self._link.ask_all([_PROBE])
            text = str(answer)
            allowed = "trimtab-probe" in text or "Unknown option" in text or "Unsupported CONFIG" in text
            refused = "unknown command" in text or "NOPERM" in text or "permission" in text
            self._probed = (run, text if refused or not allowed else "")
        return self._probed[1]

    async def _set(self, knob: str, text: str) -> None:
        try:
            await self._link.tell("CONFIG SET", knob, text)
        except (DeniedError, ExportOnlyError) as error:
            raise RefusedError(
                f"{error}; nothing was changed. Write this into redis.conf, or where the provider has it: "
                f"{knob} {text}"
            ) from None

    async def _check(self, knob: str, wanted: Value) -> None:
        try:
            now = rules.parsed(knob, (await self._link.ask("CONFIG GET", knob))[knob])
        except ToolError as error:
            raise ToolUncertainError(f"{knob} was acknowledged but could not be read back: {error}") from None
        if now != wanted:
            raise ToolUncertainError(f"{self.name}: {knob} reads {now!r} after it was set to {wanted!r}")

    async def _refuse_unsafe(
        self, info: rules.Info, knob: str, now: Value, wanted: Value, *, resets: bool
    ) -> None:
        if knob == "maxmemory-policy" and not resets:
            rules.refuse_unsafe_policy(info, str(now), str(wanted))
        if knob != "maxmemory" or now == 0 or resets:
            return
        if wanted == 0:
            raise RefusedError(f"{self.name}: maxmemory 0 is no limit at all; give one")
        if int(str(wanted)) > int(str(now)):
            seen = await self._outlook(info, int(str(wanted)))
            if not seen.fits:
                raise RefusedError(
                    f"{self.name}: maxmemory {sized(int(str(wanted)))} is refused: {self._sum(seen)}"
                )

    def _sum(self, seen: Outlook) -> str:
        hint = f"; set tools.{self.name}.memory_limit" if seen.room.limit is None else ""
        return f"{seen}{hint}"

    async def _outlook(self, info: rules.Info, maxmemory: int) -> Outlook:
        return rules.outlook(info, maxmemory, await self._room(info), saves=await self._saves())

    async def _saves(self) -> bool:
        """Whether snapshots are configured; True where it is not to be seen."""
        try:
            answer = await self._link.ask("CONFIG GET", "save")
        except (DeniedError, ExportOnlyError):
            return True
        return bool(answer.get("save", "unknown"))

    async def _room(self, info: rules.Info) -> Room:
        started = info.get("server_time_usec", 0) / 1e6 - info.get("uptime_in_seconds", 0)
        here = info.get("process_id")
        used = int(info.get("used_memory_rss", 0))
        return await asyncio.to_thread(room_of, here, started, used, self.settings.memory_limit)

    async def _purge(self) -> str:
        before = (await self._info()).get("used_memory_rss", 0)
        await self._link.tell("MEMORY PURGE")
        after = (await self._info()).get("used_memory_rss", 0)
        return f"resident memory went from {sized(before)} to {sized(after)}"

    async def _warm(self, settings: Warm) -> str:
        rate = pace(self.name, await self._origin_rate(settings), settings.rate)
        return str(await warm(self.name, settings, rate, self._is_there, self._origin))

    async def _is_there(self, key: str) -> bool:
        return bool(await self._link.ask("EXISTS", key))

    async def _origin_rate(self, settings: Warm) -> float:
        """Requests/s: what the settings say, else what the cache misses, over a minute or at least a second.

        Raises ToolError.
        """
        if settings.origin_rate is not None:
            return settings.origin_rate
        await self.metrics("")
        if self._missed.per_s() is None:
            await asyncio.sleep(1.0)
            await self.metrics("")
        rate = self._missed.per_s()
        if rate is None:
            raise ToolError(f"{self.name}: {self._link.where} does not tell its misses; set warm.origin_rate")
        return rate

    def _known(self, knob: str) -> None:
        if knob not in rules.SPECS:
            raise NotFoundError(f"{self.name} has no knob {knob!r}; it has {', '.join(rules.SPECS)}")


def _version(info: rules.Info) -> str:
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', 'of unknown version')}"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
