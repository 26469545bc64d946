"""Capacity service: evaluates the replicas that each configured service needs."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from trimtab.engine.capacity.policy import PredictivePolicy, Sizing, usual_risk
from trimtab.engine.capacity.scaling_history import DAY_S, ScalingHistory, aligned
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import Clock, KeyValueStore, ScoreLog
from trimtab.engine.settings.capacity import CapacityOf
from trimtab.engine.types import Capacity, Estimate, Floats, History, LoadPath, SeriesView
from trimtab.engine.types.selector import Selector
from trimtab.models.scaling.load_ahead import fill_gaps
from trimtab.models.scaling.replica_capacity import replica_capacity, startup_time_s

log = structlog.get_logger(__name__)

DEFAULT_STARTUP_S = 180.0
"""Start-up time in seconds until it is learned."""
SELECT_INTERVAL_S, LEARN_INTERVAL_S = 60.0, 3600.0
RETRY_INTERVAL_S = 300.0
"""Seconds between attempts to learn an unknown replica capacity."""
STALE_INTERVALS = 3.0
"""Age in scrape intervals from which a sample is stale."""
MIN_CHANGE = 0.05
"""Relative change below which a learned capacity is not updated."""
NOT_EVALUATED = "not evaluated yet; the first evaluation follows within a minute of the start"
REACTIVE_CONFIDENCE, FULL_CONFIDENCE, FULL_DAYS = 0.5, 0.9, 7.0


class CapacityService:
    """Evaluates the capacity of each service; `capacities` holds the newest results by name.

    on_result : called with (name, wanted replicas) after each evaluation; None = unknown
    prepare   : awaited once before the first evaluation, to compile kernels
    """

    def __init__(
        self,
        settings: Mapping[str, CapacityOf],
        live: LiveState,
        scores: ScoreLog,
        state_store: KeyValueStore,
        clock: Clock,
        on_result: Callable[[str, int | None], None],
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.live = live
        self.scores = scores
        self.state_store = state_store
        self.clock = clock
        self.on_result = on_result
        self.prepare = prepare
        self.read_history: Callable[[], AsyncIterator[History]] | None = None
        """Reads the sources' recorded history again, for services added by a reload; None = not available."""
        self.capacities: dict[str, Capacity] = {}
        self._services: dict[str, _ServiceState] = {}
        self._without_history: list[_ServiceState] = []
        self._history_tasks: set[asyncio.Task[None]] = set()
        self._replace_services(settings)

    def configure(self, settings: Mapping[str, CapacityOf]) -> None:
        """Apply changed settings. Unchanged services keep their state; new ones load their history."""
        before = self._services
        self._replace_services(settings)
        for name, service in self._services.items():
            was = before.get(name)
            if was is not None and was.history.is_compatible_with(service.history):
                service.history = was.history
            else:
                service.history.clear()
                self._without_history.append(service)

    def _replace_services(self, settings: Mapping[str, CapacityOf]) -> None:
        kept = {name: one for name, one in self._services.items() if settings.get(name) == one.settings}
        for gone in self.capacities.keys() - settings.keys():
            del self.capacities[gone]
            self.on_result(gone, None)
        self._services = {
            name: kept.get(name) or _ServiceState(name, one, self.live, self.scores, self.state_store)
            for name, one in settings.items()
        }
        for name in self._services.keys() - self.capacities.keys():
            self.capacities[name] = self._services[name].unknown(self.clock.now(), NOT_EVALUATED)

    def add_history(self, history: History) -> None:
        """Add a chunk of a source's recorded history."""
        for service in self._services.values():
            service.history.add(history)

    def interval_s(self) -> float:
        """Return the seconds between evaluations: the shortest configured interval."""
        return min((one.settings.interval for one in self._services.values()), default=15.0)

    async def close(self) -> None:
        """Cancel the loading of history."""
        for task in self._history_tasks:
            task.cancel()
        await asyncio.gather(*self._history_tasks, return_exceptions=True)

    async def _read_history(
        self, services: Sequence["_ServiceState"], recorded: AsyncIterator[History]
    ) -> None:
        """Read the recorded history for services added after the sources read theirs."""
        try:
            async for history in recorded:
                for service in services:
                    await asyncio.to_thread(service.history.add, history)
        except Exception:
            log.exception("capacity_history_incomplete")
        for service in services:
            service.has_new_history = True

    async def step(self) -> None:
        """Evaluate all due services; an error in one does not affect the others."""
        if self._without_history and self.read_history is not None:
            task = asyncio.create_task(self._read_history(self._without_history, self.read_history()))
            self._history_tasks.add(task)
            task.add_done_callback(self._history_tasks.discard)
            self._without_history = []
        if self._services and self.prepare is not None:
            await self.prepare()
            self.prepare = None
        for name, service in list(self._services.items()):
            now = self.clock.now()
            if not service.is_due(now):
                continue
            try:
                current = service.current_load(now)  # on the event loop, like all reads of the live state
                found = await asyncio.to_thread(service.evaluate, now, current)
            except Exception:
                log.exception("capacity_evaluation_failed", capacity=name)
                found = service.unknown(now, "internal error; see the log of Trimtab")
            if self._services.get(name) is service:
                self.capacities[name] = found
                self.on_result(name, found.wanted)


@dataclass(frozen=True, slots=True)
class CurrentLoad:
    """Current sums of a service's series; NaN = unknown."""

    load: float
    replicas: float
    ready: float
    unit: str


class _ServiceState:
    """State of one service: its series, learned values and policy."""

    def __init__(
        self, name: str, settings: CapacityOf, live: LiveState, scores: ScoreLog, memory: KeyValueStore
    ) -> None:
        self.name = name
        self.settings = settings
        self.live = live
        given = {"load": settings.load, "replicas": settings.replicas, "ready": settings.ready,
                 "utilisation": settings.utilisation}  # fmt: skip
        self._selectors = {role: Selector.parse(text) for role, text in given.items() if text}
        self.history = ScalingHistory(name, settings.interval, self._selectors, scores, memory)
        self._ids: dict[str, tuple[str, ...]] = {}
        self._selected_ns = self._learned_ns = self._tick = -(10**18)
        self.has_new_history = False
        """Whether history arrived since the last learning."""
        self._capacity: Estimate | None = None
        self._startup: Estimate | None = None
        self._policy: PredictivePolicy | None = None
        self._history_days = 0.0

    def is_due(self, now: int) -> bool:
        """Return whether a new tick has started."""
        return now // self._step_ns > self._tick

    @property
    def _step_ns(self) -> int:
        return round(self.settings.interval * 1e9)

    def current_load(self, now: int) -> CurrentLoad:
        """Return the current load and replicas from the live series."""
        if now - self._selected_ns >= SELECT_INTERVAL_S * 1e9 or not self._ids.get("load"):
            self._selected_ns = now
            self._select_series()
        load, replicas = self._sum("load", now), self._sum("replicas", now)
        ready = self._sum("ready", now) if "ready" in self._selectors else replicas
        first = next(iter(self._views("load")), None)
        return CurrentLoad(load, replicas, ready, "" if first is None else first.unit)

    def evaluate(self, now: int, current: CurrentLoad) -> Capacity:
        """Return the capacity now. Reads the score log and computes; call it in a worker thread."""
        self._tick = now // self._step_ns
        again_s = RETRY_INTERVAL_S if self._capacity is None else LEARN_INTERVAL_S
        if self.has_new_history or now - self._learned_ns >= again_s * 1e9:
            self._policy = None if self.has_new_history else self._policy
            self.has_new_history = False
            self._learn(now)
        known = replace(
            self.unknown(now, ""), unit=current.unit, load=_or_none(current.load),
            current=_or_none(current.replicas),
            ready=_or_none(current.ready), cost_per_day=self._cost(current.replicas),
        )  # fmt: skip
        problem = self._problem(current)
        if problem or self._capacity is None or self._startup is None:
            return replace(known, problem=problem)
        policy = self._policy or self._build_policy(now)
        total = int(current.replicas)
        wanted = policy.want(self._tick, current.load, int(min(current.ready, current.replicas)), total)
        last = policy.last
        if last.why == "hold":
            problem = (
                "the load is unknown or fell to exactly 0, which is suspect: keep the number of replicas"
            )
            return replace(known, why="hold", problem=problem)
        return replace(
            known, wanted=wanted, floor=last.floor, ahead=last.ahead, why=last.why,
            path=self._load_path(policy, wanted),
            confidence=self._confidence(last.ahead is not None), wanted_cost_per_day=self._cost(wanted),
        )  # fmt: skip

    def unknown(self, now: int, problem: str) -> Capacity:
        """Return the result for unknown inputs: settings and learned values only."""
        s, loads = self.settings, self._ids.get("load", ())
        return Capacity(
            self.name, s.kind, now, "", None, None, None, None, None, None, "unknown", problem, 0.0,
            self._capacity, self._startup, s.target_utilisation, None, None, None, s.tool or "",
            s.target or s.tool or "", s.knob or "",
            tuple(series_id for role in ("load", "replicas") for series_id in self._ids.get(role, ())),
            loads[0] if len(loads) == 1 else "",
        )  # fmt: skip

    def _problem(self, current: CurrentLoad) -> str:
        """Return why the capacity is unknown; "" = it is known."""
        for role, value in (("load", current.load), ("replicas", current.replicas), ("ready", current.ready)):
            if not math.isnan(value):
                continue
            if role in self._selectors and not self._ids.get(role):
                text = getattr(self.settings, role)
                return f"capacity.{self.name}.{role}: {text} selects no watched series; fix the selector"
            return f"the newest sample of {role} is missing or too old: keep the number of replicas"
        if self._capacity is None:
            return (
                "the capacity per replica cannot be learned from utilisation yet; wait for higher load, or "
                f"set capacity.{self.name}.capacity_per_replica"
            )
        return ""

    def _select_series(self) -> None:
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
        """Return the sum of a role's current values; NaN if one is unknown or stale."""
        views = self._views(role)
        if not views:
            return math.nan
        return sum(self._value(view, now) for view in views)

    def _value(self, view: SeriesView, now: int) -> float:
        oldest_s = STALE_INTERVALS * max(
            self.live.source_status(view.source).interval_s, self.settings.interval
        )
        if view.value is None or view.time is None or now - view.time > oldest_s * 1e9:
            return math.nan
        return view.value

    def _learn(self, now: int) -> None:
        """Update capacity per replica and start-up time from the settings or the history."""
        self._learned_ns = now
        s = self.settings
        if s.capacity_per_replica != "auto":
            self._capacity = _configured(s.capacity_per_replica)
        else:
            roles = ("load", "ready" if s.ready else "replicas")
            load, replicas = (self._load_history(role, now) for role in roles)
            past = aligned(load, replicas, self._load_history("utilisation", now, mean=True))
            self._set_capacity(_learned(replica_capacity(*past)))
        startup = _configured(s.startup) if s.startup != "auto" else None
        if startup is None and s.ready is not None:
            total, ready = aligned(self._load_history("replicas", now), self._load_history("ready", now))
            startup = _learned(startup_time_s(total, ready, s.interval))
        self._set_startup(
            startup or self._startup or replace(_configured(DEFAULT_STARTUP_S), source="assumed")
        )

    def _set_capacity(self, learnt: Estimate | None) -> None:
        old = self._capacity
        if learnt is None or (old is not None and abs(learnt.value / old.value - 1.0) <= MIN_CHANGE):
            return
        self._capacity = learnt
        if self._policy is not None:
            self._policy.sizing = replace(self._policy.sizing, capacity=learnt.value)

    def _set_startup(self, found: Estimate) -> None:
        if self._startup is not None and abs(found.value - self._startup.value) > self.settings.interval:
            self._policy = None
        self._startup = found

    def _build_policy(self, now: int) -> PredictivePolicy:
        s = self.settings
        assert self._capacity is not None and self._startup is not None  # noqa: S101, PT018 - checked by the caller
        sizing = Sizing(
            self._capacity.value, self._startup.value, s.target_utilisation, s.min_replicas, s.max_replicas,
            usual_risk(self._startup.value) if s.risk == "auto" else s.risk,
        )  # fmt: skip
        past = fill_gaps(self._load_history("load", now))
        self._history_days = len(past) * s.interval / DAY_S
        self._policy = PredictivePolicy(sizing, past, s.interval, s.metric_lag)
        return self._policy

    def _load_history(self, role: str, now: int, *, mean: bool = False) -> Floats:
        return self.history.column(role, self._ids.get(role, ()), now, mean=mean)

    def _load_path(self, policy: PredictivePolicy, wanted: int) -> LoadPath | None:
        high, likely = policy.load.upper(), policy.load.expected()
        if self._capacity is None or not np.isfinite(high).all():
            return None
        ahead_s = tuple(a - self.settings.metric_lag for a in policy.load.aheads_s)
        serves = (wanted * self._capacity.value,) * len(ahead_s)
        return LoadPath(ahead_s, tuple(likely.tolist()), tuple(high.tolist()), serves, policy.sizing.risk)

    def _cost(self, replicas: float) -> float | None:
        a_hour = self.settings.cost_per_replica_hour
        return None if a_hour is None or math.isnan(replicas) else 24.0 * a_hour * replicas

    def _confidence(self, forecast: bool) -> float:
        if not forecast or self._capacity is None:
            return REACTIVE_CONFIDENCE
        span = FULL_CONFIDENCE - REACTIVE_CONFIDENCE
        past = REACTIVE_CONFIDENCE + span * min(1.0, self._history_days / FULL_DAYS)
        return round(past * self._capacity.low / self._capacity.value, 3)


def _configured(value: float) -> Estimate:
    return Estimate(value, value, value, "set")


def _learned(found: Sequence[float] | None) -> Estimate | None:
    return None if found is None else Estimate(found[0], found[1], found[2], "learnt")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
