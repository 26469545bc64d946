"""Every few seconds: what each configured service needs now, from the live series and their past."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from trimtab.engine.capacity.policy import Predictive, Sizing, usual_risk
from trimtab.engine.capacity.scaling_history import DAY_S, Past, aligned
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import Clock, KeyValueStore, ScoreLog
from trimtab.engine.settings.capacity import CapacityOf
from trimtab.engine.types import Capacity, Estimate, Floats, History, LoadPath, SeriesView
from trimtab.engine.types.selector import Selector
from trimtab.models.scaling.load_ahead import fill_gaps
from trimtab.models.scaling.replica_capacity import replica_capacity, startup_time_s

log = structlog.get_logger(__name__)

STARTUP_S = 180.0
"""Assumed until enough starts were seen."""
LOOK_AGAIN_S, LEARN_AGAIN_S = 60.0, 3600.0
UNKNOWN_AGAIN_S = 300.0
"""Between tries while it is not known what one serves."""
STALE = 3.0
"""Intervals after which a sample says nothing of now."""
MOVED = 0.05
"""A learnt figure that moved by less changes nothing."""
NOT_YET = "it was not looked at yet; that comes within a minute of the start"
REACTIVE_CONFIDENCE, FULL_CONFIDENCE, FULL_DAYS = 0.5, 0.9, 7.0


class Scaling:
    """What each service needs; `shown` holds the newest answers by name.

    tell    : called with (name, wanted) after each evaluation; None = unknown
    prepare : awaited once before the first evaluation, as to compile
    """

    def __init__(
        self,
        settings: Mapping[str, CapacityOf],
        live: LiveState,
        scores: ScoreLog,
        memory: KeyValueStore,
        clock: Clock,
        tell: Callable[[str, int | None], None],
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.live = live
        self.scores = scores
        self.memory = memory
        self.clock = clock
        self.tell = tell
        self.prepare = prepare
        self.recorded: Callable[[], AsyncIterator[History]] | None = None
        """Gives what the sources recorded, once more, for what a reload adds; None = nobody can."""
        self.shown: dict[str, Capacity] = {}
        self._services: dict[str, _Service] = {}
        self._unheard: list[_Service] = []
        self._hearing: set[asyncio.Task[None]] = set()
        self._take(settings)

    def configure(self, settings: Mapping[str, CapacityOf]) -> None:
        """Go on with these; what stays as it is goes on where it was, what is new hears of its past soon."""
        before = self._services
        self._take(settings)
        for name, service in self._services.items():
            was = before.get(name)
            if was is not None and was.past.serves(service.past):
                service.past = was.past
            else:
                service.past.begin_anew()
                self._unheard.append(service)

    def _take(self, settings: Mapping[str, CapacityOf]) -> None:
        kept = {name: one for name, one in self._services.items() if settings.get(name) == one.settings}
        for gone in self.shown.keys() - settings.keys():
            del self.shown[gone]
            self.tell(gone, None)
        self._services = {
            name: kept.get(name) or _Service(name, one, self.live, self.scores, self.memory)
            for name, one in settings.items()
        }
        for name in self._services.keys() - self.shown.keys():
            self.shown[name] = self._services[name].unknown(self.clock.now(), NOT_YET)

    def hear(self, history: History) -> None:
        """A source reads its recorded history."""
        for service in self._services.values():
            service.past.hear(history)

    def interval_s(self) -> float:
        """Seconds between evaluations: the shortest that is asked for."""
        return min((one.settings.interval for one in self._services.values()), default=15.0)

    async def close(self) -> None:
        """Hear no more."""
        for task in self._hearing:
            task.cancel()
        await asyncio.gather(*self._hearing, return_exceptions=True)

    async def _hear_again(self, services: Sequence["_Service"], recorded: AsyncIterator[History]) -> None:
        """Let those hear what was recorded who came after it was read, then learn from it."""
        try:
            async for history in recorded:
                for service in services:
                    await asyncio.to_thread(service.past.hear, history)
        except Exception:
            log.exception("the past of new capacities is not read to its end")
        for service in services:
            service.heard = True

    async def step(self) -> None:
        """Evaluate all that are due; a fault of one leaves the others alone."""
        if self._unheard and self.recorded is not None:
            task = asyncio.create_task(self._hear_again(self._unheard, self.recorded()))
            self._hearing.add(task)
            task.add_done_callback(self._hearing.discard)
            self._unheard = []
        if self._services and self.prepare is not None:
            await self.prepare()
            self.prepare = None
        for name, service in list(self._services.items()):
            now = self.clock.now()
            if not service.due(now):
                continue
            try:
                seen = service.look(now)  # on the event loop, as all of the live view
                found = await asyncio.to_thread(service.evaluate, now, seen)
            except Exception:
                log.exception("a capacity cannot be evaluated, trying again", capacity=name)
                found = service.unknown(now, "a fault in Trimtab; its log has more")
            if self._services.get(name) is service:
                self.shown[name] = found
                self.tell(name, found.wanted)


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of one moment; NaN = unknown."""

    load: float
    replicas: float
    ready: float
    unit: str


class _Service:
    """One service: its series, what was learnt of it, its policy."""

    def __init__(
        self, name: str, settings: CapacityOf, live: LiveState, scores: ScoreLog, memory: KeyValueStore
    ) -> None:
        self.name = name
        self.settings = settings
        self.live = live
        given = {"load": settings.load, "replicas": settings.replicas, "ready": settings.ready,
                 "utilisation": settings.utilisation}  # fmt: skip
        self._selectors = {role: Selector.parse(text) for role, text in given.items() if text}
        self.past = Past(name, settings.interval, self._selectors, scores, memory)
        self._ids: dict[str, tuple[str, ...]] = {}
        self._looked = self._learnt = self._tick = -(10**18)
        self.heard = False
        """Whether it was told of more of its past since it learnt."""
        self._one: Estimate | None = None
        self._startup: Estimate | None = None
        self._policy: Predictive | None = None
        self._past_days = 0.0

    def due(self, now: int) -> bool:
        """Whether another tick has begun."""
        return now // self._step_ns > self._tick

    @property
    def _step_ns(self) -> int:
        return round(self.settings.interval * 1e9)

    def look(self, now: int) -> Seen:
        """What the live series say now."""
        if now - self._looked >= LOOK_AGAIN_S * 1e9 or not self._ids.get("load"):
            self._looked = now
            self._find()
        load, replicas = self._sum("load", now), self._sum("replicas", now)
        ready = self._sum("ready", now) if "ready" in self._selectors else replicas
        first = next(iter(self._views("load")), None)
        return Seen(load, replicas, ready, "" if first is None else first.unit)

    def evaluate(self, now: int, seen: Seen) -> Capacity:
        """What is wanted now. Reads the log of scores and computes: for a thread."""
        self._tick = now // self._step_ns
        again_s = UNKNOWN_AGAIN_S if self._one is None else LEARN_AGAIN_S
        if self.heard or now - self._learnt >= again_s * 1e9:
            self._policy = None if self.heard else self._policy
            self.heard = False
            self._learn(now)
        known = replace(
            self.unknown(now, ""), unit=seen.unit, load=_or_none(seen.load), current=_or_none(seen.replicas),
            ready=_or_none(seen.ready), cost_per_day=self._cost(seen.replicas),
        )  # fmt: skip
        problem = self._problem(seen)
        if problem or self._one is None or self._startup is None:
            return replace(known, problem=problem)
        policy = self._policy or self._build(now)
        total = int(seen.replicas)
        wanted = policy.want(self._tick, seen.load, int(min(seen.ready, seen.replicas)), total)
        last = policy.last
        if last.why == "hold":
            words = "the load is unknown, or fell to exactly 0, which is suspect: the count is to stay"
            return replace(known, why="hold", problem=words)
        return replace(
            known, wanted=wanted, floor=last.floor, ahead=last.ahead, why=last.why,
            path=self._path(policy, wanted),
            confidence=self._confidence(last.ahead is not None), wanted_cost_per_day=self._cost(wanted),
        )  # fmt: skip

    def unknown(self, now: int, problem: str) -> Capacity:
        """The answer where nothing is known but the settings, and what was learnt before."""
        s, loads = self.settings, self._ids.get("load", ())
        return Capacity(
            self.name, s.kind, now, "", None, None, None, None, None, None, "unknown", problem, 0.0,
            self._one, self._startup, s.target_utilisation, None, None, None, s.tool or "",
            s.target or s.tool or "", s.knob or "",
            tuple(series_id for role in ("load", "replicas") for series_id in self._ids.get(role, ())),
            loads[0] if len(loads) == 1 else "",
        )  # fmt: skip

    def _problem(self, seen: Seen) -> str:
        """Why nothing can be said; "" = something can."""
        for role, value in (("load", seen.load), ("replicas", seen.replicas), ("ready", seen.ready)):
            if not math.isnan(value):
                continue
            if role in self._selectors and not self._ids.get(role):
                text = getattr(self.settings, role)
                return f"capacity.{self.name}.{role}: {text} selects no series that is watched; mend that"
            return f"the newest sample of {role} is missing or too old: the count is to stay as it is"
        if self._one is None:
            return (
                "what one of them serves cannot be learnt yet from utilisation; wait for busier hours, or "
                f"set capacity.{self.name}.capacity_per_replica"
            )
        return ""

    def _find(self) -> None:
        found: dict[str, list[str]] = {role: [] for role in self._selectors}
        for info in self.live.all_watched_series():
            labels = dict(info.key.labels)
            for role, selector in self._selectors.items():
                if selector.matches(info.key.metric, labels):
                    found[role].append(info.key.id)
        self._ids = {role: tuple(sorted(ids)) for role, ids in found.items()}

    def _views(self, role: str) -> list[SeriesView]:
        return [view for view in map(self.live.watched_series, self._ids.get(role, ())) if view is not None]

    def _sum(self, role: str, now: int) -> float:
        """The sum of what is there now; NaN where one of them is unknown or stale."""
        views = self._views(role)
        if not views:
            return math.nan
        return sum(self._value(view, now) for view in views)

    def _value(self, view: SeriesView, now: int) -> float:
        oldest_s = STALE * max(self.live.source_status(view.source).interval_s, self.settings.interval)
        if view.value is None or view.time is None or now - view.time > oldest_s * 1e9:
            return math.nan
        return view.value

    def _learn(self, now: int) -> None:
        """What one serves and how long it takes to start: as set, or as history shows."""
        self._learnt = now
        s = self.settings
        if s.capacity_per_replica != "auto":
            self._one = _given(s.capacity_per_replica)
        else:
            roles = ("load", "ready" if s.ready else "replicas")
            load, replicas = (self._past(role, now) for role in roles)
            past = aligned(load, replicas, self._past("utilisation", now, mean=True))
            self._take_capacity(_learnt(replica_capacity(*past)))
        startup = _given(s.startup) if s.startup != "auto" else None
        if startup is None and s.ready is not None:
            total, ready = aligned(self._past("replicas", now), self._past("ready", now))
            startup = _learnt(startup_time_s(total, ready, s.interval))
        self._take_startup(startup or self._startup or replace(_given(STARTUP_S), source="assumed"))

    def _take_capacity(self, learnt: Estimate | None) -> None:
        old = self._one
        if learnt is None or (old is not None and abs(learnt.value / old.value - 1.0) <= MOVED):
            return
        self._one = learnt
        if self._policy is not None:
            self._policy.sizing = replace(self._policy.sizing, capacity=learnt.value)

    def _take_startup(self, found: Estimate) -> None:
        if self._startup is not None and abs(found.value - self._startup.value) > self.settings.interval:
            self._policy = None
        self._startup = found

    def _build(self, now: int) -> Predictive:
        s = self.settings
        assert self._one is not None and self._startup is not None  # noqa: S101, PT018 - asked by the caller
        sizing = Sizing(
            self._one.value, self._startup.value, s.target_utilisation, s.min_replicas, s.max_replicas,
            usual_risk(self._startup.value) if s.risk == "auto" else s.risk,
        )  # fmt: skip
        past = fill_gaps(self._past("load", now))
        self._past_days = len(past) * s.interval / DAY_S
        self._policy = Predictive(sizing, past, s.interval, s.metric_lag)
        return self._policy

    def _past(self, role: str, now: int, *, mean: bool = False) -> Floats:
        return self.past.column(role, self._ids.get(role, ()), now, mean=mean)

    def _path(self, policy: Predictive, wanted: int) -> LoadPath | None:
        high, likely = policy.load.upper(), policy.load.expected()
        if self._one is None or not np.isfinite(high).all():
            return None
        ahead_s = tuple(a - self.settings.metric_lag for a in policy.load.aheads_s)
        serves = (wanted * self._one.value,) * len(ahead_s)
        return LoadPath(ahead_s, tuple(likely.tolist()), tuple(high.tolist()), serves, policy.sizing.risk)

    def _cost(self, replicas: float) -> float | None:
        a_hour = self.settings.cost_per_replica_hour
        return None if a_hour is None or math.isnan(replicas) else 24.0 * a_hour * replicas

    def _confidence(self, forecast: bool) -> float:
        if not forecast or self._one is None:
            return REACTIVE_CONFIDENCE
        span = FULL_CONFIDENCE - REACTIVE_CONFIDENCE
        past = REACTIVE_CONFIDENCE + span * min(1.0, self._past_days / FULL_DAYS)
        return round(past * self._one.low / self._one.value, 3)


def _given(value: float) -> Estimate:
    return Estimate(value, value, value, "set")


def _learnt(found: Sequence[float] | None) -> Estimate | None:
    return None if found is None else Estimate(found[0], found[1], found[2], "learnt")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
