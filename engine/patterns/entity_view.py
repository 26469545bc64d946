"""An entity as the rules of patterns see it: its figures by role, its neighbours, what changed."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trimtab.engine.detection.entities import callee_of, entity_of, shared_labels_of
from trimtab.engine.patterns.metric_window import MetricWindow, known_max, aggregate, aggregate_usual
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import SeriesRole, find_role
from trimtab.engine.patterns.sample_ring import SampleRing
from trimtab.engine.types import Change, Floats, Ints, SeriesInfo, SeriesKey

_SINGLE_CORE_FAMILIES = frozenset({"python", "nodejs", "redis", "pm2"})
"""Families whose work runs on one core: CPU use of 1 is all that there is."""
MIN_KNOWN_ROWS = 40
"""What is usual is known from so many rows on."""
_ZERO_UNTIL_FIRST = frozenset({Role.ERRORS, Role.DEPENDENCY_ERRORS, Role.CONNECTIONS_REFUSED})
_CACHE_FAMILIES = frozenset({"redis", "memcached"})


@dataclass(slots=True)
class Entity:
    """An entity: which columns of the ring play which role in it.

    roles    : role -> (rank, metric, how they are taken together, columns), the metric that speaks first
    around   : what it shares with neighbours; calls: names of those that it calls
    """

    name: str
    roles: dict[Role, list[tuple[int, str, str, list[int]]]] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)
    shared_labels: set[str] = field(default_factory=set)
    callees: set[str] = field(default_factory=set)
    keys: list[SeriesKey] = field(default_factory=list)


class EntityIndex:
    """Who plays which part: entities and roles of the series of one source.

    slots   : (n_columns,) slot of each series that plays a part
    entity  : (n_columns,) index into `members`;  role : (n_columns,) index into `ROLES`
    """

    def __init__(self, keys: Sequence[SeriesKey], info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.entities: list[Entity] = []
        self.keys: list[SeriesKey] = []
        self.positions: dict[str, int] = {}
        slots: list[int] = []
        entity: list[int] = []
        role: list[int] = []
        for slot, key in enumerate(keys):
            known = info(key)
            part = find_role(key, known.unit, known.kind)
            if part is None:
                continue
            place = self._position(entity_of(key))
            self._add_series(self.entities[place], key, part, len(slots))
            slots.append(slot)
            entity.append(place)
            role.append(ROLES.index(part.role))
        self.slots: Ints = np.array(slots, np.int64)
        self.entity_of_column: Ints = np.array(entity, np.int64)
        self.role_of_column: Ints = np.array(role, np.int64)

    def _position(self, name: str) -> int:
        if name not in self.positions:
            self.positions[name] = len(self.entities)
            self.entities.append(Entity(name))
        return self.positions[name]

    def _add_series(self, member: Entity, key: SeriesKey, part: SeriesRole, column: int) -> None:
        self.keys.append(key)
        member.keys.append(key)
        member.shared_labels |= shared_labels_of(key)
        if part.family:
            member.families.add(part.family)
        if callee_of(key):
            member.callees.add(callee_of(key))
        groups = member.roles.setdefault(part.role, [])
        for group in groups:
            if group[:2] == (part.rank, key.metric):
                group[3].append(column)
                return
        groups.append((part.rank, key.metric, part.aggregation, [column]))
        groups.sort(key=lambda group: group[:2])


ROLES = tuple(Role)


class EntityView:
    """One entity now. Every figure may be None: it is then not known, and nothing is concluded from it.

    ailing  : neighbours that have something open, by name
    changes : those near in time that concern it
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
        """The figure of a role; None where no series plays it, or none is known now."""
        if role not in self._metrics:
            self._metrics[role] = self._build_metric(role)
        return self._metrics[role]

    def _build_metric(self, role: Role) -> MetricWindow | None:
        for _, metric, take, columns in self.entity.roles.get(role, ()):
            times, values = self._ring.read(np.array(columns, np.int64))
            usual, distance = self._baseline(columns, take)
            ids = tuple(self._index.keys[c].id for c in columns)
            if role in _ZERO_UNTIL_FIRST and self._is_established:
                values = _fill_before_first(values)
                usual, distance = (0.0, 0.0) if math.isnan(usual) else (usual, distance)
            course = MetricWindow(times, aggregate(values, take), usual, distance, ids, metric)
            if not math.isnan(course.current):
                return course
        return None

    def _baseline(self, columns: list[int], take: str) -> tuple[float, float]:
        """Of those series that are known long enough; NaN where none is."""
        ring = self._ring
        if len(columns) == 1 and take != "percent":
            (c,) = columns
            long = ring.seen[c] >= MIN_KNOWN_ROWS
            return (float(ring.usual[c]), float(ring.distance[c])) if long else (math.nan, math.nan)
        known = [c for c in columns if ring.seen[c] >= MIN_KNOWN_ROWS]
        if not known:
            return math.nan, math.nan
        return aggregate_usual(ring.usual[known], ring.distance[known], take)

    @cached_property
    def _is_established(self) -> bool:
        """Some series of it has been there for a while."""
        groups = (columns for role in self.entity.roles.values() for *_, columns in role)
        return any(self._ring.seen[c] >= MIN_KNOWN_ROWS for columns in groups for c in columns)

    @cached_property
    def hit_ratio(self) -> MetricWindow | None:
        """Hits of all look-ups, 0..1."""
        hits, misses = self.metric(Role.HITS), self.metric(Role.MISSES)
        if hits is not None and misses is not None:
            return hits.divided_by(hits.plus(misses))
        return self.metric(Role.HIT_RATIO)

    @cached_property
    def load(self) -> MetricWindow | None:
        """What is asked of it, requests/s; of a cache the look-ups, for each miss makes a write as well."""
        hits, misses = self.metric(Role.HITS), self.metric(Role.MISSES)
        if self.is_cache and hits is not None and misses is not None:
            return hits.plus(misses)
        return self.metric(Role.THROUGHPUT)

    @cached_property
    def memory(self) -> MetricWindow | None:
        """Memory in use, bytes; of a machine what is not free."""
        used = self.metric(Role.MEMORY_USED)
        if used is not None:
            return used
        free, whole = self.metric(Role.MEMORY_FREE), self.metric(Role.MEMORY_LIMIT)
        return None if free is None or whole is None else whole.minus(free)

    @property
    def memory_limit(self) -> float:
        """What it may use, bytes; NaN = not known, or without a limit."""
        limit = self.metric(Role.MEMORY_LIMIT)
        found = math.nan if limit is None else limit.current
        return found if 0.0 < found < 2.0**60 else math.nan

    @property
    def memory_ratio(self) -> float:
        """Memory used of its limit, 0..1; NaN = not known."""
        ratio = self.metric(Role.MEMORY_RATIO)
        if self.memory is None or math.isnan(self.memory_limit):
            return math.nan if ratio is None else ratio.current
        return self.memory.current / self.memory_limit

    @cached_property
    def connections(self) -> MetricWindow | None:
        """Connections in use; sessions idle in a transaction among them."""
        used, idle = self.metric(Role.CONNECTIONS_USED), self.metric(Role.IDLE_IN_TRANSACTION)
        if used is not None and idle is not None and used.metric == idle.metric:
            return used.plus(idle)
        return used

    @property
    def pool_ratio(self) -> float:
        """Connections in use of those allowed, 0..1; NaN = not known."""
        limit, ratio = self.metric(Role.CONNECTIONS_LIMIT), self.metric(Role.POOL_RATIO)
        if self.connections is not None and limit is not None and limit.current > 0:
            return self.connections.current / limit.current
        return math.nan if ratio is None else ratio.current

    @cached_property
    def cpu(self) -> MetricWindow | None:
        """CPU use of what there is, 0..1; None also where nobody says how much there is."""
        idle, used, limit = (self.metric(role) for role in (Role.CPU_IDLE, Role.CPU, Role.CPU_LIMIT))
        if used is not None and limit is not None:
            return used.divided_by(limit)
        if used is not None and (self.entity.families & (_SINGLE_CORE_FAMILIES | {"host", "jvm"})):
            return used
        if idle is None:
            return None
        whole = MetricWindow(idle.times, np.ones_like(idle.values), 1.0, 0.0)
        return whole.minus(idle)

    @cached_property
    def error_ratio(self) -> float:
        """Failed requests of all, 0..1; NaN = not known."""
        errors, good, ratio = (self.metric(role) for role in (Role.ERRORS, Role.THROUGHPUT, Role.ERROR_RATIO))
        if errors is None or good is None:
            return math.nan if ratio is None else ratio.current
        whole = errors.current + (
            good.current if errors.metric == good.metric else max(good.current - errors.current, 0.0)
        )
        return errors.current / whole if whole > 0 else math.nan

    @property
    def is_cache(self) -> bool:
        """It is made to fill its memory up to the limit."""
        return bool(self.entity.families & _CACHE_FAMILIES)

    def elevation(self, role: Role, low: float, high: float) -> float:
        """How clearly a role's figure is above usual, 0..1; NaN = not known."""
        course = self.metric(role)
        return math.nan if course is None else course.elevation(low, high)

    @property
    def slowdown(self) -> float:
        """How clearly its answers take longer than usual, 0..1; NaN = not known."""
        return self.elevation(Role.LATENCY, 1.3, 2.0)

    @property
    def failure_rise(self) -> float:
        """How clearly more requests fail than usual, 0..1; NaN = not known."""
        rise = self.elevation(Role.ERRORS, 2.0, 4.0)
        rise = self.elevation(Role.ERROR_RATIO, 2.0, 4.0) if math.isnan(rise) else rise
        share = error_ratio_strength(self.error_ratio)
        return rise if math.isnan(share) else rise * share

    @property
    def trouble(self) -> float:
        """How clearly it is in trouble by itself: not reachable, failing or slow, 0..1."""
        up = self.metric(Role.UP)
        down = math.nan if up is None else float(up.current < 0.5)
        return known_max([down, self.failure_rise, self.slowdown])


def _fill_before_first(values: Floats) -> Floats:
    """A count of failures that came later than its entity was 0 before the first failure made it."""
    began = np.maximum.accumulate(~np.isnan(values), axis=0)
    return np.where(began, values, 0.0)


def error_ratio_strength(share: float) -> float:
    """From 1 % of failed requests on it matters, at 5 % it is a burst."""
    return math.nan if math.isnan(share) else min(max((share - 0.005) / 0.03, 0.0), 1.0)
