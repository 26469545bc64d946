"""Recognizes named patterns of one source's entities. No I/O, no clock.

Only series with a role are kept, and only entities with a reason are evaluated: an open anomaly, a metric
near
its limit, a rising floor, a change. A healthy tick is therefore cheap.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trimtab.engine.patterns.entity_view import ROLES, Entity, EntityIndex, EntityView
from trimtab.engine.patterns.evidence import PatternFinding
from trimtab.engine.patterns.leak_trend import may_be_rising
from trimtab.engine.patterns.metric_window import FAR_DEVIATIONS, RECENT_ROWS
from trimtab.engine.patterns.pattern_rules import EXPLAINS, RULES, remedies
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.sample_ring import SampleRing
from trimtab.engine.types import Change, Floats, Ints, PatternMatch, SeriesInfo, SeriesKey, TickScores
from trimtab.models.contracts import Bools, State

MAX_ROWS = 120
"""Rows of the window; with short intervals a row covers several ticks."""
MIN_ROWS = 40
"""Rows needed to conclude anything."""
CONFIRM_LOOKS = 3
"""Consecutive evaluations that must agree before a pattern is reported."""
END_AFTER_MISSES = 8
"""Evaluations without the pattern after which it ends."""
LEAK_CHECK_ROWS = 4
"""Rows between two checks for rising memory."""
MAX_EVALUATED = 24
"""Entities evaluated per tick; if more are due they take turns."""
MAX_NEIGHBOURS = 20
MAX_NEIGHBOUR_CANDIDATES = 200
"""Unhealthy entities considered as neighbours; where more are unhealthy, a neighbour explains nothing."""
_HOT_THRESHOLDS = {
    Role.EVICTIONS: 0.0,
    Role.CONNECTIONS_WAITING: 0.5,
    Role.IDLE_IN_TRANSACTION: 3.0,
    Role.QUEUE_LENGTH: 15.0,
    Role.CPU: 0.75,
    Role.IO: 0.75,
    Role.LOOP: 0.75,
    Role.POOL_RATIO: 0.75,
    Role.ERROR_RATIO: 0.01,
}
"""An entity is evaluated when a metric exceeds this value, even if it always did."""
_HOT_BY_ROLE = np.array([_HOT_THRESHOLDS.get(role, math.inf) for role in ROLES])
_RISES = {Role.THROUGHPUT, Role.LATENCY, Role.ERRORS, Role.DEPENDENCY_ERRORS, Role.CONNECTIONS_REFUSED}
_RISING_COUNTS = np.array([role in _RISES for role in ROLES])
"""Roles for which an entity is evaluated when they rise far above usual, even without an open anomaly."""
_MEMORY = ROLES.index(Role.MEMORY_USED)
_USED, _LIMIT = ROLES.index(Role.CONNECTIONS_USED), ROLES.index(Role.CONNECTIONS_LIMIT)


@dataclass(slots=True)
class _TrackedPattern:
    """A pattern of an entity over time; its fields are part of the stored state."""

    since: int
    verdict: PatternFinding
    seen: int = 1
    missed: int = 0


class PatternRecognizer:
    """Recognizes patterns in one source's ticks.

    interval_s : seconds between ticks
    info       : unit and kind of a series
    window_s   : seconds of history to keep; takes at most 1 kB per series with a role
    """

    def __init__(
        self,
        interval_s: float,
        info: Callable[[SeriesKey], SeriesInfo] = SeriesInfo,
        window_s: float = 1800.0,
    ) -> None:
        self.info = info
        rows = min(max(int(window_s / interval_s), 2 * MIN_ROWS), MAX_ROWS)
        self.ring = SampleRing(rows, max(window_s / rows, interval_s))
        self.index = EntityIndex((), info)
        self._keys: Sequence[SeriesKey] = ()
        self._columns: list[str] = []
        """Ids of the series in the columns of the ring."""
        self._tracked: dict[tuple[str, str], _TrackedPattern] = {}
        self._affected: dict[str, list[int]] = {}
        self._rising: Ints = np.empty(0, np.int64)
        self._rows = 0
        self._turn = 0

    def step(
        self,
        time: int,
        keys: Sequence[SeriesKey],
        scores: TickScores,
        open_slots: Collection[int],
        changes: Iterable[Change] = (),
    ) -> list[PatternMatch]:
        """Add a tick; return all patterns recognized now, most confident first.

        time       : int64 ns
        keys       : by slot, the identical tuple while no series comes or goes
        open_slots : slots with an open anomaly, as `TickResult.open_ids`
        changes    : recent change events; those outside the window are ignored
        A tick without any sample changes nothing.
        """
        if np.isnan(scores.values).all():
            return self.current_matches()
        self._update_index(keys)
        slots = self.index.slots
        unhealthy = self._entities_of_slots(open_slots)
        self._rows += self.ring.append(time, scores.values[slots], self._healthy_columns(unhealthy))
        if self.ring.filled == 1:
            self._tracked = {}  # what was seen before is out of the window, or there was nothing
        if self.ring.filled >= MIN_ROWS:
            self._evaluate_due(time, unhealthy, self._recent_changes(time, changes))
        return self.current_matches()

    def state(self) -> tuple[State, dict[str, Any]]:
        """Return the window and the tracked patterns as arrays and plain values (JSON)."""
        tracked = [[*key, asdict(tracked)] for key, tracked in self._tracked.items()]
        return self.ring.state(), {
            "columns": self._columns, "held": tracked, "rows": self._rows, "turn": self._turn,
        }  # fmt: skip

    def restore(self, arrays: State, known: Mapping[str, Any]) -> None:
        """Restore `state`. Raises KeyError, TypeError or ValueError when it does not fit."""
        tracked = {(entity, name): _tracked_from_state(stored) for entity, name, stored in known["held"]}
        columns, rows, turn = list(known["columns"]), int(known["rows"]), int(known["turn"])
        if arrays["data"].shape[1] != len(columns):
            raise ValueError(f"{len(columns)} series for {arrays['data'].shape[1]} columns")
        self.ring.restore(arrays)
        self._tracked, self._columns, self._rows, self._turn = tracked, columns, rows, turn
        self._keys = ()

    def current_matches(self) -> list[PatternMatch]:
        """Return the patterns found by the last evaluation, most confident first."""
        confirmed = [(k, h) for k, h in self._tracked.items() if h.seen >= CONFIRM_LOOKS]
        reported = {k for k, _ in confirmed}
        hidden = {(entity, explained) for entity, name in reported for explained in EXPLAINS.get(name, ())}
        matches = [self._match(*key, held) for key, held in confirmed if key not in hidden]
        return sorted(matches, key=lambda match: (-match.confidence, match.entity, match.name))

    def _match(self, entity: str, name: str, tracked: _TrackedPattern) -> PatternMatch:
        entity_record = self._entity(entity)
        finding = tracked.verdict
        return PatternMatch(
            name,
            entity,
            round(finding.confidence, 3),
            tracked.since,
            finding.evidence,
            finding.series_ids,
            remedies(name, entity_record.families if entity_record else ()),
            entity_record.keys[0].source if entity_record else "",
        )

    def _entity(self, entity: str) -> Entity | None:
        position = self.index.positions.get(entity)
        return None if position is None else self.index.entities[position]

    def _update_index(self, keys: Sequence[SeriesKey]) -> None:
        """Rebuild the index after series came or went; the history of the others stays."""
        if keys is self._keys:
            return
        self._keys = keys
        previous = {series_id: column for column, series_id in enumerate(self._columns)}
        self.index = EntityIndex(keys, self.info)
        self._columns = [key.id for key in self.index.keys]
        self.ring.remap_columns(
            np.array([previous.get(series_id, -1) for series_id in self._columns], np.int64)
        )
        self._rising = np.empty(0, np.int64)
        self._affected = {}

    def _recent_changes(self, time: int, changes: Iterable[Change]) -> list[Change]:
        window = self.ring.rows * self.ring.step_ns
        return [change for change in changes if time - window <= change.time <= time]

    def _healthy_columns(self, unhealthy: Sequence[int]) -> Bools:
        """Return (n_columns,) bool: series of entities without open anomaly or pattern."""
        is_healthy = np.ones(len(self.index.entities), np.bool_)
        is_healthy[list(unhealthy)] = False
        is_healthy[
            [self.index.positions[name] for name, _ in self._tracked if name in self.index.positions]
        ] = False
        healthy: Bools = is_healthy[self.index.entity_of_column]
        return healthy

    def _evaluate_due(self, time: int, unhealthy: Sequence[int], changes: Sequence[Change]) -> None:
        self._affected = {change.id: self._affected_entities(change) for change in changes}
        positions = self._due_entities(unhealthy, changes)
        views: dict[int, EntityView] = {}
        known_counts = np.bincount(
            self.index.entity_of_column[~np.isnan(self.ring.recent_mean(RECENT_ROWS))], minlength=1
        )
        for position in positions:
            if self._is_silent(position, known_counts):
                continue
            self._evaluate(self._view(position, unhealthy, changes, views), time)
        for key in [key for key in self._tracked if key[0] not in self.index.positions]:
            del self._tracked[key]

    def _is_silent(self, position: int, known_counts: Ints) -> bool:
        """Return whether an entity has no current samples but had some within the window."""
        if position < len(known_counts) and known_counts[position]:
            return False
        return not bool(np.isnan(self.ring.data[:, self.index.entity_of_column == position]).all())

    def _entities_of_slots(self, open_slots: Collection[int]) -> list[int]:
        """Return entities with an open anomaly in a series that has a role."""
        has_anomaly = np.isin(self.index.slots, np.fromiter(open_slots, np.int64, len(open_slots)))
        return list(np.unique(self.index.entity_of_column[has_anomaly]).tolist())

    def _due_entities(self, unhealthy: Sequence[int], changes: Sequence[Change]) -> list[int]:
        """Return entities to evaluate: unhealthy ones and those with a pattern first; others take turns."""
        with_pattern = [
            self.index.positions[name] for name, _ in self._tracked if name in self.index.positions
        ]
        first = dict.fromkeys([*with_pattern, *unhealthy])
        changed = [position for change in changes for position in self._affected_entities(change)]
        rest = [
            i
            for i in dict.fromkeys([*self._hot_entities(), *self._leaking_entities(), *changed])
            if i not in first
        ]
        urgent = _rotate(list(first), self._turn, MAX_EVALUATED)
        more = _rotate(rest, self._turn, MAX_EVALUATED - len(urgent) // 2)
        self._turn += MAX_EVALUATED // 2
        return [*urgent, *more]

    def _affected_entities(self, change: Change) -> list[int]:
        """Return entities that a change concerns; all of them for a change without labels."""
        known = self._affected.get(change.id)
        if known is None:
            entities = enumerate(self.index.entities)
            known = [
                position
                for position, entity in entities
                if not change.labels or _change_concerns(entity, change)
            ]
            self._affected[change.id] = known
        return known

    def _hot_entities(self) -> list[int]:
        values, index, ring = self.ring.recent_mean(RECENT_ROWS), self.index, self.ring
        limit = ring.usual + np.maximum(FAR_DEVIATIONS * ring.distance, 0.25 * ring.usual)
        far = (values > limit) & (ring.seen >= MIN_ROWS) & _RISING_COUNTS[index.role_of_column]
        hot = index.entity_of_column[far | (values > _HOT_BY_ROLE[index.role_of_column])]
        n = len(index.entities)
        used, limit = (_sum_by_entity(values, index, role, n) for role in (_USED, _LIMIT))
        full = np.flatnonzero((limit > 0) & (used > 0.75 * limit))
        return list(np.unique(np.concatenate([hot, full])).tolist())

    def _leaking_entities(self) -> list[int]:
        if self._rows % LEAK_CHECK_ROWS == 0:
            columns = np.flatnonzero(self.index.role_of_column == _MEMORY)
            values = self.ring.read(columns)[1]
            self._rising = np.unique(self.index.entity_of_column[columns[may_be_rising(values)]])
        return list(self._rising.tolist())

    def _view(
        self, position: int, unhealthy: Sequence[int], changes: Sequence[Change], views: dict[int, EntityView]
    ) -> EntityView:
        index, entity = self.index, self.index.entities[position]
        neighbours = [
            other
            for other in unhealthy[:MAX_NEIGHBOUR_CANDIDATES]
            if other != position and _are_neighbours(entity, index.entities[other])
        ]
        for other in neighbours[:MAX_NEIGHBOURS]:
            if other not in views:
                views[other] = EntityView(index.entities[other], index, self.ring)
        neighbour_views = {index.entities[other].name: views[other] for other in neighbours[:MAX_NEIGHBOURS]}
        return EntityView(
            entity,
            index,
            self.ring,
            neighbour_views,
            [c for c in changes if position in self._affected_entities(c)],
        )

    def _evaluate(self, view: EntityView, time: int) -> None:
        """Evaluate all rules for one entity and update its tracked patterns."""
        for name, rule in RULES.items():
            finding, key = rule(view), (view.name, name)
            tracked = self._tracked.get(key)
            if finding is not None and tracked is None:
                self._tracked[key] = _TrackedPattern(time, finding)
            elif finding is not None and tracked is not None:
                tracked.verdict, tracked.seen, tracked.missed = finding, tracked.seen + 1, 0
            elif tracked is not None:
                tracked.missed += 1
                if tracked.missed >= END_AFTER_MISSES or tracked.seen < CONFIRM_LOOKS:
                    del self._tracked[key]


def _tracked_from_state(stored: Mapping[str, Any]) -> _TrackedPattern:
    """Return the tracked pattern of a stored state."""
    verdict = stored["verdict"]
    words = tuple(verdict["evidence"]), tuple(verdict["series_ids"])
    return _TrackedPattern(**{**stored, "verdict": PatternFinding(float(verdict["confidence"]), *words)})


def _rotate(positions: list[int], start: int, limit: int) -> list[int]:
    if len(positions) <= limit:
        return positions
    start %= len(positions)
    return (positions + positions)[start : start + limit]


def _sum_by_entity(values: Floats, index: EntityIndex, role: int, n: int) -> Floats:
    """Return the sum of a role's newest values by entity, (n,)."""
    has_role = index.role_of_column == role
    known = np.where(np.isnan(values[has_role]), 0.0, values[has_role])
    return np.bincount(index.entity_of_column[has_role], known, n).astype(np.float64, copy=False)


def _are_neighbours(one: Entity, other: Entity) -> bool:
    """Return whether two entities share a host or namespace, or one calls the other by its name."""
    called = any(name in other.name for name in one.callees)
    return called or bool(one.shared_labels & other.shared_labels)


def _change_concerns(entity: Entity, change: Change) -> bool:
    change_labels = change.labels
    for labels in (dict(key.labels) for key in entity.keys):
        shared = [name for name in change_labels if name in labels]
        if shared and all(labels[name] == change_labels[name] for name in shared):
            return True
    return False
