"""Groups a source's series by entity, maps each to a role, and presents one entity to the pattern rules."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trimtab.engine.detection.entities import callee_of, entity_of, shared_labels_of
from trimtab.engine.patterns.metric_window import MetricWindow, aggregate, aggregate_usual, known_max
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import SeriesRole, find_role
from trimtab.engine.patterns.sample_ring import SampleRing
from trimtab.engine.types import Change, Floats, Ints, SeriesInfo, SeriesKey

_SINGLE_CORE_FAMILIES = frozenset({"python", "nodejs", "redis", "pm2"})
"""Families that run on one core: a CPU use of 1 is all they can use."""
MIN_KNOWN_ROWS = 40
"""Rows after which the usual level of a series is known."""
_ZERO_UNTIL_FIRST = frozenset({Role.ERRORS, Role.DEPENDENCY_ERRORS, Role.CONNECTIONS_REFUSED})
_CACHE_FAMILIES = frozenset({"redis", "memcached"})


@dataclass(slots=True)
class Entity:
    """An entity and the columns of the ring that have a role in it.

    roles         : role -> (rank, metric, aggregation, columns), the preferred metric first
    shared_labels : what it shares with its neighbours
    callees       : names of the services it calls
    """

    name: str
    roles: dict[Role, list[tuple[int, str, str, list[int]]]] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)
    shared_labels: set[str] = field(default_factory=set)
    callees: set[str] = field(default_factory=set)
    keys: list[SeriesKey] = field(default_factory=list)


class EntityIndex:
    """Groups a source's series by entity and maps each to a role (hit ratio, memory, latency ...).

    slots            : (n_columns,) slot of each series that has a role
    entity_of_column : (n_columns,) index into `entities`
    role_of_column   : (n_columns,) index into `ROLES`
    positions        : entity name -> index into `entities`
    """

    def __init__(self, keys: Sequence[SeriesKey], info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.entities: list[Entity] = []
        self.keys: list[SeriesKey] = []
        self.positions: dict[str, int] = {}
        slots: list[int] = []
        entity: list[int] = []
        role: list[int] = []
        for slot, key in enumerate(keys):
            metadata = info(key)
            series_role = find_role(key, metadata.unit, metadata.kind)
            if series_role is None:
                continue
            position = self._position(entity_of(key))
            self._add_series(self.entities[position], key, series_role, len(slots))
            slots.append(slot)
            entity.append(position)
            role.append(ROLES.index(series_role.role))
        self.slots: Ints = np.array(slots, np.int64)
        self.entity_of_column: Ints = np.array(entity, np.int64)
        self.role_of_column: Ints = np.array(role, np.int64)

    def _position(self, name: str) -> int:
        if name not in self.positions:
            self.positions[name] = len(self.entities)
            self.entities.append(Entity(name))
        return self.positions[name]

    def _add_series(self, entity: Entity, key: SeriesKey, series_role: SeriesRole, column: int) -> None:
        self.keys.append(key)
        entity.keys.append(key)
        entity.shared_labels |= shared_labels_of(key)
        if series_role.family:
            entity.families.add(series_role.family)
        if callee_of(key):
            entity.callees.add(callee_of(key))
        groups = entity.roles.setdefault(series_role.role, [])
        for group in groups:
            if group[:2] == (series_role.rank, key.metric):
                group[3].append(column)
                return
        groups.append((series_role.rank, key.metric, series_role.aggregation, [column]))
        groups.sort(key=lambda group: group[:2])


ROLES = tuple(Role)


class EntityView:
    """The recent metrics of one entity, by role; None = unknown, and nothing is concluded from it.

    unhealthy_neighbours : neighbours with an open anomaly, by name
    changes              : recent change events that concern the entity
    """

    def __init__(
        self,
        entity: Entity,
        index: EntityIndex,
        ring: SampleRing,
        unhealthy_neighbours: Mapping[str, "EntityView"] | None = None,
        changes: Iterable[Change] = (),
    ) -> None:
        self.entity = entity
        self.unhealthy_neighbours = unhealthy_neighbours or {}
        self.changes = tuple(changes)
        self._index = index
        self._ring = ring
        self._metrics: dict[Role, MetricWindow | None] = {}

    @property
    def name(self) -> str:
        """The entity's name."""
        return self.entity.name

    def metric(self, role: Role) -> MetricWindow | None:
        """Return the metric of a role; None where no series has the role or its current value is unknown."""
        if role not in self._metrics:
            self._metrics[role] = self._build_metric(role)
        return self._metrics[role]

    def _build_metric(self, role: Role) -> MetricWindow | None:
        for _, name, aggregation, columns in self.entity.roles.get(role, ()):
            times, values = self._ring.read(np.array(columns, np.int64))
            usual, deviation = self._baseline(columns, aggregation)
            ids = tuple(self._index.keys[c].id for c in columns)
            if role in _ZERO_UNTIL_FIRST and self._is_established:
                values = _fill_before_first(values)
                usual, deviation = (0.0, 0.0) if math.isnan(usual) else (usual, deviation)
            window = MetricWindow(times, aggregate(values, aggregation), usual, deviation, ids, name)
            if not math.isnan(window.current):
                return window
        return None

    def _baseline(self, columns: list[int], aggregation: str) -> tuple[float, float]:
        """Return usual level and usual deviation over established series; NaN where none is established."""
        ring = self._ring
        if len(columns) == 1 and aggregation != "percent":
            (c,) = columns
            is_established = ring.seen[c] >= MIN_KNOWN_ROWS
            return (float(ring.usual[c]), float(ring.distance[c])) if is_established else (math.nan, math.nan)
        established = [c for c in columns if ring.seen[c] >= MIN_KNOWN_ROWS]
        if not established:
            return math.nan, math.nan
        return aggregate_usual(ring.usual[established], ring.distance[established], aggregation)

    @cached_property
    def _is_established(self) -> bool:
        """Whether some series of the entity has been present for `MIN_KNOWN_ROWS`."""
        groups = (columns for role in self.entity.roles.values() for *_, columns in role)
        return any(self._ring.seen[c] >= MIN_KNOWN_ROWS for columns in groups for c in columns)

    @cached_property
    def hit_ratio(self) -> MetricWindow | None:
        """Hits of all lookups, 0..1."""
        hits, misses = self.metric(Role.HITS), self.metric(Role.MISSES)
        if hits is not None and misses is not None:
            return hits.divided_by(hits.plus(misses))
        return self.metric(Role.HIT_RATIO)

    @cached_property
    def load(self) -> MetricWindow | None:
        """Load in requests/s; for a cache the lookups, because each miss also causes a write."""
        hits, misses = self.metric(Role.HITS), self.metric(Role.MISSES)
        if self.is_cache and hits is not None and misses is not None:
            return hits.plus(misses)
        return self.metric(Role.THROUGHPUT)

    @cached_property
    def memory(self) -> MetricWindow | None:
        """Memory in use, bytes; for a machine, total minus free memory."""
        used = self.metric(Role.MEMORY_USED)
        if used is not None:
            return used
        free, total = self.metric(Role.MEMORY_FREE), self.metric(Role.MEMORY_LIMIT)
        return None if free is None or total is None else total.minus(free)

    @property
    def memory_limit(self) -> float:
        """Memory limit in bytes; NaN = unknown or unlimited."""
        limit = self.metric(Role.MEMORY_LIMIT)
        found = math.nan if limit is None else limit.current
        return found if 0.0 < found < 2.0**60 else math.nan

    @property
    def memory_ratio(self) -> float:
        """Memory in use of its limit, 0..1; NaN = unknown."""
        ratio = self.metric(Role.MEMORY_RATIO)
        if self.memory is None or math.isnan(self.memory_limit):
            return math.nan if ratio is None else ratio.current
        return self.memory.current / self.memory_limit

    @cached_property
    def connections(self) -> MetricWindow | None:
        """Connections in use, including sessions idle in a transaction."""
        used, idle = self.metric(Role.CONNECTIONS_USED), self.metric(Role.IDLE_IN_TRANSACTION)
        if used is not None and idle is not None and used.metric == idle.metric:
            return used.plus(idle)
        return used

    @property
    def pool_ratio(self) -> float:
        """Connections in use of those allowed, 0..1; NaN = unknown."""
        limit, ratio = self.metric(Role.CONNECTIONS_LIMIT), self.metric(Role.POOL_RATIO)
        if self.connections is not None and limit is not None and limit.current > 0:
            return self.connections.current / limit.current
        return math.nan if ratio is None else ratio.current

    @cached_property
    def cpu(self) -> MetricWindow | None:
        """CPU use of the available CPU, 0..1; None also where the available CPU is unknown."""
        idle, used, limit = (self.metric(role) for role in (Role.CPU_IDLE, Role.CPU, Role.CPU_LIMIT))
        if used is not None and limit is not None:
            return used.divided_by(limit)
        if used is not None and (self.entity.families & (_SINGLE_CORE_FAMILIES | {"host", "jvm"})):
            return used
        if idle is None:
            return None
        total = MetricWindow(idle.times, np.ones_like(idle.values), 1.0, 0.0)
        return total.minus(idle)

    @cached_property
    def error_ratio(self) -> float:
        """Failed requests of all requests, 0..1; NaN = unknown."""
        errors, succeeded, ratio = (
            self.metric(role) for role in (Role.ERRORS, Role.THROUGHPUT, Role.ERROR_RATIO)
        )
        if errors is None or succeeded is None:
            return math.nan if ratio is None else ratio.current
        total = errors.current + (
            succeeded.current
            if errors.metric == succeeded.metric
            else max(succeeded.current - errors.current, 0.0)
        )
        return errors.current / total if total > 0 else math.nan

    @property
    def is_cache(self) -> bool:
        """Whether the entity is a cache, which fills its memory up to the limit by design."""
        return bool(self.entity.families & _CACHE_FAMILIES)

    def elevation(self, role: Role, low: float, high: float) -> float:
        """Return how clearly a role's metric is above its usual level, 0..1; NaN = unknown."""
        metric = self.metric(role)
        return math.nan if metric is None else metric.elevation(low, high)

    @property
    def slowdown(self) -> float:
        """How clearly latency is above its usual level, 0..1; NaN = unknown."""
        return self.elevation(Role.LATENCY, 1.3, 2.0)

    @property
    def failure_rise(self) -> float:
        """How clearly more requests fail than usual, 0..1; NaN = unknown."""
        rise = self.elevation(Role.ERRORS, 2.0, 4.0)
        rise = self.elevation(Role.ERROR_RATIO, 2.0, 4.0) if math.isnan(rise) else rise
        strength = error_ratio_strength(self.error_ratio)
        return rise if math.isnan(strength) else rise * strength

    @property
    def trouble(self) -> float:
        """How clearly the entity itself is down, failing or slow, 0..1; NaN = unknown."""
        up = self.metric(Role.UP)
        down = math.nan if up is None else float(up.current < 0.5)
        return known_max([down, self.failure_rise, self.slowdown])


def _fill_before_first(values: Floats) -> Floats:
    """Set a failure counter to 0 before its first sample: exporters create it with the first failure."""
    began = np.maximum.accumulate(~np.isnan(values), axis=0)
    return np.where(began, values, 0.0)


def error_ratio_strength(share: float) -> float:
    """Return 0 up to a ratio of 0.5 % of failed requests, 1 from 3.5 %."""
    return math.nan if math.isnan(share) else min(max((share - 0.005) / 0.03, 0.0), 1.0)
