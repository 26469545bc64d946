"""An entity as the rules of patterns see it: its figures by role, its neighbours, what changed."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trimtab.engine.detection.entities import called_by, entity_of, surroundings_of
from trimtab.engine.patterns.metric_window import Course, known_max, together, usual_together
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import Part, part_of
from trimtab.engine.patterns.sample_ring import Ring
from trimtab.engine.types import Change, Floats, Ints, SeriesInfo, SeriesKey

_ONE_CORE = frozenset({"python", "nodejs", "redis", "pm2"})
"""Families whose work runs on one core: CPU use of 1 is all that there is."""
KNOWN_ROWS = 40
"""What is usual is known from so many rows on."""
_FROM_NOTHING = frozenset({Role.ERRORS, Role.DEPENDENCY_ERRORS, Role.CONNECTIONS_REFUSED})
_CACHES = frozenset({"redis", "memcached"})


@dataclass(slots=True)
class Member:
    """An entity: which columns of the ring play which role in it.

    roles    : role -> (rank, metric, how they are taken together, columns), the metric that speaks first
    around   : what it shares with neighbours; calls: names of those that it calls
    """

    name: str
    roles: dict[Role, list[tuple[int, str, str, list[int]]]] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)
    around: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    keys: list[SeriesKey] = field(default_factory=list)


class Cast:
    """Who plays which part: entities and roles of the series of one source.

    slots   : (n_columns,) slot of each series that plays a part
    entity  : (n_columns,) index into `members`;  role : (n_columns,) index into `ROLES`
    """

    def __init__(self, keys: Sequence[SeriesKey], info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.members: list[Member] = []
        self.keys: list[SeriesKey] = []
        self.places: dict[str, int] = {}
        slots: list[int] = []
        entity: list[int] = []
        role: list[int] = []
        for slot, key in enumerate(keys):
            known = info(key)
            part = part_of(key, known.unit, known.kind)
            if part is None:
                continue
            place = self._place(entity_of(key))
            self._enter(self.members[place], key, part, len(slots))
            slots.append(slot)
            entity.append(place)
            role.append(ROLES.index(part.role))
        self.slots: Ints = np.array(slots, np.int64)
        self.entity: Ints = np.array(entity, np.int64)
        self.role: Ints = np.array(role, np.int64)

    def _place(self, name: str) -> int:
        if name not in self.places:
            self.places[name] = len(self.members)
            self.members.append(Member(name))
        return self.places[name]

    def _enter(self, member: Member, key: SeriesKey, part: Part, column: int) -> None:
        self.keys.append(key)
        member.keys.append(key)
        member.around |= surroundings_of(key)
        if part.family:
            member.families.add(part.family)
        if called_by(key):
            member.calls.add(called_by(key))
        groups = member.roles.setdefault(part.role, [])
        for group in groups:
            if group[:2] == (part.rank, key.metric):
                group[3].append(column)
                return
        groups.append((part.rank, key.metric, part.take, [column]))
        groups.sort(key=lambda group: group[:2])


ROLES = tuple(Role)


class Scene:
    """One entity now. Every figure may be None: it is then not known, and nothing is concluded from it.

    ailing  : neighbours that have something open, by name
    changes : those near in time that concern it
    """

    def __init__(
        self,
        member: Member,
        cast: Cast,
        ring: Ring,
        ailing: Mapping[str, "Scene"] | None = None,
        changes: Iterable[Change] = (),
    ) -> None:
        self.member = member
        self.ailing = ailing or {}
        self.changes = tuple(changes)
        self._cast = cast
        self._ring = ring
        self._courses: dict[Role, Course | None] = {}

    @property
    def name(self) -> str:
        """The entity's name."""
        return self.member.name

    def course(self, role: Role) -> Course | None:
        """The figure of a role; None where no series plays it, or none is known now."""
        if role not in self._courses:
            self._courses[role] = self._course(role)
        return self._courses[role]

    def _course(self, role: Role) -> Course | None:
        for _, metric, take, columns in self.member.roles.get(role, ()):
            times, values = self._ring.read(np.array(columns, np.int64))
            usual, distance = self._usual(columns, take)
            ids = tuple(self._cast.keys[c].id for c in columns)
            if role in _FROM_NOTHING and self._known_long:
                values = _from_nothing(values)
                usual, distance = (0.0, 0.0) if math.isnan(usual) else (usual, distance)
            course = Course(times, together(values, take), usual, distance, ids, metric)
            if not math.isnan(course.now):
                return course
        return None

    def _usual(self, columns: list[int], take: str) -> tuple[float, float]:
        """Of those series that are known long enough; NaN where none is."""
        ring = self._ring
        if len(columns) == 1 and take != "percent":
            (c,) = columns
            long = ring.seen[c] >= KNOWN_ROWS
            return (float(ring.usual[c]), float(ring.distance[c])) if long else (math.nan, math.nan)
        known = [c for c in columns if ring.seen[c] >= KNOWN_ROWS]
        if not known:
            return math.nan, math.nan
        return usual_together(ring.usual[known], ring.distance[known], take)

    @cached_property
    def _known_long(self) -> bool:
        """Some series of it has been there for a while."""
        groups = (columns for role in self.member.roles.values() for *_, columns in role)
        return any(self._ring.seen[c] >= KNOWN_ROWS for columns in groups for c in columns)

    @cached_property
    def hit_ratio(self) -> Course | None:
        """Hits of all look-ups, 0..1."""
        hits, misses = self.course(Role.HITS), self.course(Role.MISSES)
        if hits is not None and misses is not None:
            return hits.over(hits.plus(misses))
        return self.course(Role.HIT_RATIO)

    @cached_property
    def load(self) -> Course | None:
        """What is asked of it, requests/s; of a cache the look-ups, for each miss makes a write as well."""
        hits, misses = self.course(Role.HITS), self.course(Role.MISSES)
        if self.is_cache and hits is not None and misses is not None:
            return hits.plus(misses)
        return self.course(Role.THROUGHPUT)

    @cached_property
    def memory(self) -> Course | None:
        """Memory in use, bytes; of a machine what is not free."""
        used = self.course(Role.MEMORY_USED)
        if used is not None:
            return used
        free, whole = self.course(Role.MEMORY_FREE), self.course(Role.MEMORY_LIMIT)
        return None if free is None or whole is None else whole.minus(free)

    @property
    def memory_limit(self) -> float:
        """What it may use, bytes; NaN = not known, or without a limit."""
        limit = self.course(Role.MEMORY_LIMIT)
        found = math.nan if limit is None else limit.now
        return found if 0.0 < found < 2.0**60 else math.nan

    @property
    def memory_share(self) -> float:
        """Memory used of its limit, 0..1; NaN = not known."""
        ratio = self.course(Role.MEMORY_RATIO)
        if self.memory is None or math.isnan(self.memory_limit):
            return math.nan if ratio is None else ratio.now
        return self.memory.now / self.memory_limit

    @cached_property
    def connections(self) -> Course | None:
        """Connections in use; sessions idle in a transaction among them."""
        used, idle = self.course(Role.CONNECTIONS_USED), self.course(Role.IDLE_IN_TRANSACTION)
        if used is not None and idle is not None and used.metric == idle.metric:
            return used.plus(idle)
        return used

    @property
    def pool_share(self) -> float:
        """Connections in use of those allowed, 0..1; NaN = not known."""
        limit, ratio = self.course(Role.CONNECTIONS_LIMIT), self.course(Role.POOL_RATIO)
        if self.connections is not None and limit is not None and limit.now > 0:
            return self.connections.now / limit.now
        return math.nan if ratio is None else ratio.now

    @cached_property
    def cpu(self) -> Course | None:
        """CPU use of what there is, 0..1; None also where nobody says how much there is."""
        idle, used, limit = (self.course(role) for role in (Role.CPU_IDLE, Role.CPU, Role.CPU_LIMIT))
        if used is not None and limit is not None:
            return used.over(limit)
        if used is not None and (self.member.families & (_ONE_CORE | {"host", "jvm"})):
            return used
        if idle is None:
            return None
        whole = Course(idle.times, np.ones_like(idle.value), 1.0, 0.0)
        return whole.minus(idle)

    @cached_property
    def error_share(self) -> float:
        """Failed requests of all, 0..1; NaN = not known."""
        errors, good, ratio = (self.course(role) for role in (Role.ERRORS, Role.THROUGHPUT, Role.ERROR_RATIO))
        if errors is None or good is None:
            return math.nan if ratio is None else ratio.now
        whole = errors.now + (good.now if errors.metric == good.metric else max(good.now - errors.now, 0.0))
        return errors.now / whole if whole > 0 else math.nan

    @property
    def is_cache(self) -> bool:
        """It is made to fill its memory up to the limit."""
        return bool(self.member.families & _CACHES)

    def lift(self, role: Role, low: float, high: float) -> float:
        """How clearly a role's figure is above usual, 0..1; NaN = not known."""
        course = self.course(role)
        return math.nan if course is None else course.up(low, high)

    @property
    def slower(self) -> float:
        """How clearly its answers take longer than usual, 0..1; NaN = not known."""
        return self.lift(Role.LATENCY, 1.3, 2.0)

    @property
    def failing(self) -> float:
        """How clearly more requests fail than usual, 0..1; NaN = not known."""
        rise = self.lift(Role.ERRORS, 2.0, 4.0)
        rise = self.lift(Role.ERROR_RATIO, 2.0, 4.0) if math.isnan(rise) else rise
        share = ramp_of_errors(self.error_share)
        return rise if math.isnan(share) else rise * share

    @property
    def ill(self) -> float:
        """How clearly it is in trouble by itself: not reachable, failing or slow, 0..1."""
        up = self.course(Role.UP)
        down = math.nan if up is None else float(up.now < 0.5)
        return known_max([down, self.failing, self.slower])


def _from_nothing(values: Floats) -> Floats:
    """A count of failures that came later than its entity was 0 before the first failure made it."""
    began = np.maximum.accumulate(~np.isnan(values), axis=0)
    return np.where(began, values, 0.0)


def ramp_of_errors(share: float) -> float:
    """From 1 % of failed requests on it matters, at 5 % it is a burst."""
    return math.nan if math.isnan(share) else min(max((share - 0.005) / 0.03, 0.0), 1.0)
