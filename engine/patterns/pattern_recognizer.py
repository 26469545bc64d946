"""Which named patterns the entities of one source show now. No I/O, no clock.

Windows are kept only of series that play a role, and only entities are judged that something speaks for: an
open anomaly, a figure at its limit, a floor that rises, a change. So a quiet tick costs little.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trimtab.engine.patterns.entity_view import ROLES, EntityIndex, Entity, EntityView
from trimtab.engine.patterns.evidence import PatternFinding
from trimtab.engine.patterns.leak_trend import may_be_rising
from trimtab.engine.patterns.metric_window import FAR_DEVIATIONS, RECENT_ROWS
from trimtab.engine.patterns.pattern_rules import EXPLAINS, RULES, remedies
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.sample_ring import SampleRing
from trimtab.engine.types import Change, Floats, Ints, PatternMatch, SeriesInfo, SeriesKey, TickScores
from trimtab.models.contracts import Bools, State

MAX_ROWS = 120
"""Of the window at most; where ticks are quicker a row covers several of them."""
MIN_ROWS = 40
"""Nothing is concluded from less."""
CONFIRM_LOOKS = 3
"""Looks in a row that must agree before a pattern is told; LET_GO without it end it."""
END_AFTER_MISSES = 8
LEAK_CHECK_ROWS = 4
"""Rows between two looks for rising memory."""
MAX_EVALUATED = 24
"""Entities looked at in a tick; where more are due they take turns."""
MAX_NEIGHBOURS = 20
MAX_NEIGHBOUR_CANDIDATES = 200
"""Ailing entities that are asked whether they are neighbours: where so much is wrong, it explains nothing."""
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
"""A figure above this is worth a look, even where it was never otherwise."""
_HOT_BY_ROLE = np.array([_HOT_THRESHOLDS.get(role, math.inf) for role in ROLES])
_RISES = {Role.THROUGHPUT, Role.LATENCY, Role.ERRORS, Role.DEPENDENCY_ERRORS, Role.CONNECTIONS_REFUSED}
_RISING_COUNTS = np.array([role in _RISES for role in ROLES])
"""Roles in which far more than usual is worth a look, even where the scorer finds nothing unusual."""
_MEMORY = ROLES.index(Role.MEMORY_USED)
_USED, _LIMIT = ROLES.index(Role.CONNECTIONS_USED), ROLES.index(Role.CONNECTIONS_LIMIT)


@dataclass(slots=True)
class _TrackedPattern:
    """A pattern of an entity over time."""

    since: int
    verdict: PatternFinding
    seen: int = 1
    missed: int = 0


class PatternRecognizer:
    """Recognises patterns in one source's ticks.

    interval_s : seconds between ticks
    info       : unit and kind of a series, as its source tells
    window_s   : how far back is looked; it takes at most 1 kB for each series that plays a role
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
        """Take in a tick; every pattern that is there now, surest first.

        time       : int64 ns
        keys       : by slot, the very same tuple while nothing came or went
        open_slots : slots with an open anomaly, as `Sensed.open_ids`
        changes    : those of the last half hour; others are left out
        A tick of which nothing is known changes nothing.
        """
        if np.isnan(scores.values).all():
            return self.current_matches()
        self._update_index(keys)
        slots = self.index.slots
        ailing = self._entities_of_slots(open_slots)
        self._rows += self.ring.append(time, scores.values[slots], self._healthy_columns(ailing))
        if self.ring.filled == 1:
            self._tracked = {}  # what was seen before is out of the window, or there was nothing
        if self.ring.filled >= MIN_ROWS:
            self._evaluate_due(time, ailing, self._recent_changes(time, changes))
        return self.current_matches()

    def state(self) -> tuple[State, dict[str, Any]]:
        """The window, and what is recognised, as arrays and plain values (JSON)."""
        held = [[*key, asdict(held)] for key, held in self._tracked.items()]
        return self.ring.state(), {
            "columns": self._columns, "held": held, "rows": self._rows, "turn": self._turn,
        }  # fmt: skip

    def restore(self, arrays: State, known: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Raises KeyError, TypeError or ValueError where it does not fit."""
        held = {(entity, name): _tracked_from_state(stored) for entity, name, stored in known["held"]}
        columns, rows, turn = list(known["columns"]), int(known["rows"]), int(known["turn"])
        if arrays["data"].shape[1] != len(columns):
            raise ValueError(f"{len(columns)} series for {arrays['data'].shape[1]} columns")
        self.ring.restore(arrays)
        self._tracked, self._columns, self._rows, self._turn = held, columns, rows, turn
        self._keys = ()

    def current_matches(self) -> list[PatternMatch]:
        """What was found by the last look, surest first."""
        sure = [(k, h) for k, h in self._tracked.items() if h.seen >= CONFIRM_LOOKS]
        told = {k for k, _ in sure}
        hidden = {(entity, less) for entity, name in told for less in EXPLAINS.get(name, ())}
        matches = [self._match(*key, held) for key, held in sure if key not in hidden]
        return sorted(matches, key=lambda match: (-match.confidence, match.entity, match.name))

    def _match(self, entity: str, name: str, held: _TrackedPattern) -> PatternMatch:
        member = self._entity(entity)
        verdict = held.verdict
        return PatternMatch(
            name, entity, round(verdict.confidence, 3), held.since, verdict.evidence, verdict.series_ids,
            remedies(name, member.families if member else ()), member.keys[0].source if member else "",
        )  # fmt: skip

    def _entity(self, entity: str) -> Entity | None:
        place = self.index.positions.get(entity)
        return None if place is None else self.index.entities[place]

    def _update_index(self, keys: Sequence[SeriesKey]) -> None:
        """Follow series that came or went; what is known of the others stays."""
        if keys is self._keys:
            return
        self._keys = keys
        before = {series_id: column for column, series_id in enumerate(self._columns)}
        self.index = EntityIndex(keys, self.info)
        self._columns = [key.id for key in self.index.keys]
        self.ring.remap_columns(np.array([before.get(one, -1) for one in self._columns], np.int64))
        self._rising = np.empty(0, np.int64)
        self._affected = {}

    def _recent_changes(self, time: int, changes: Iterable[Change]) -> list[Change]:
        window = self.ring.rows * self.ring.step_ns
        return [change for change in changes if time - window <= change.time <= time]

    def _healthy_columns(self, ailing: Sequence[int]) -> Bools:
        """(n_columns,) series of entities that have nothing open and show no pattern."""
        well = np.ones(len(self.index.entities), np.bool_)
        well[list(ailing)] = False
        well[[self.index.positions[name] for name, _ in self._tracked if name in self.index.positions]] = (
            False
        )
        calm: Bools = well[self.index.entity_of_column]
        return calm

    def _evaluate_due(self, time: int, ailing: Sequence[int], changes: Sequence[Change]) -> None:
        self._affected = {change.id: self._affected_entities(change) for change in changes}
        due = self._due_entities(ailing, changes)
        scenes: dict[int, EntityView] = {}
        told_of = np.bincount(
            self.index.entity_of_column[~np.isnan(self.ring.recent_mean(RECENT_ROWS))], minlength=1
        )
        for place in due:
            if self._is_silent(place, told_of):
                continue
            self._evaluate(self._view(place, ailing, changes, scenes), time)
        for key in [key for key in self._tracked if key[0] not in self.index.positions]:
            del self._tracked[key]

    def _is_silent(self, place: int, told_of: Ints) -> bool:
        """Nothing is known of an entity now, but was within the window: then nothing is concluded."""
        if place < len(told_of) and told_of[place]:
            return False
        return not bool(np.isnan(self.ring.data[:, self.index.entity_of_column == place]).all())

    def _entities_of_slots(self, open_slots: Collection[int]) -> list[int]:
        """Entities with an open anomaly in a series that plays a role."""
        mine = np.isin(self.index.slots, np.fromiter(open_slots, np.int64, len(open_slots)))
        return list(np.unique(self.index.entity_of_column[mine]).tolist())

    def _due_entities(self, ailing: Sequence[int], changes: Sequence[Change]) -> list[int]:
        """Entities to look at: the ailing ones and those with a pattern first, the rest takes turns."""
        held = [self.index.positions[name] for name, _ in self._tracked if name in self.index.positions]
        first = dict.fromkeys([*held, *ailing])
        changed = [place for change in changes for place in self._affected_entities(change)]
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
        """Entities that a change concerns: all where it was told without labels."""
        known = self._affected.get(change.id)
        if known is None:
            members = enumerate(self.index.entities)
            known = [
                place for place, member in members if not change.labels or _change_concerns(member, change)
            ]
            self._affected[change.id] = known
        return known

    def _hot_entities(self) -> list[int]:
        values, cast, ring = self.ring.recent_mean(RECENT_ROWS), self.index, self.ring
        limit = ring.usual + np.maximum(FAR_DEVIATIONS * ring.distance, 0.25 * ring.usual)
        far = (values > limit) & (ring.seen >= MIN_ROWS) & _RISING_COUNTS[cast.role_of_column]
        hot = cast.entity_of_column[far | (values > _HOT_BY_ROLE[cast.role_of_column])]
        n = len(cast.entities)
        used, limit = (_sum_by_entity(values, cast, role, n) for role in (_USED, _LIMIT))
        full = np.flatnonzero((limit > 0) & (used > 0.75 * limit))
        return list(np.unique(np.concatenate([hot, full])).tolist())

    def _leaking_entities(self) -> list[int]:
        if self._rows % LEAK_CHECK_ROWS == 0:
            columns = np.flatnonzero(self.index.role_of_column == _MEMORY)
            values = self.ring.read(columns)[1]
            self._rising = np.unique(self.index.entity_of_column[columns[may_be_rising(values)]])
        return list(self._rising.tolist())

    def _view(
        self, place: int, ailing: Sequence[int], changes: Sequence[Change], scenes: dict[int, EntityView]
    ) -> EntityView:
        cast, member = self.index, self.index.entities[place]
        near = [
            other
            for other in ailing[:MAX_NEIGHBOUR_CANDIDATES]
            if other != place and _are_neighbours(member, cast.entities[other])
        ]
        for other in near[:MAX_NEIGHBOURS]:
            if other not in scenes:
                scenes[other] = EntityView(cast.entities[other], cast, self.ring)
        around = {cast.entities[other].name: scenes[other] for other in near[:MAX_NEIGHBOURS]}
        return EntityView(
            member, cast, self.ring, around, [c for c in changes if place in self._affected_entities(c)]
        )

    def _evaluate(self, scene: EntityView, time: int) -> None:
        """Look at one entity, and keep what was found in mind."""
        for name, rule in RULES.items():
            verdict, key = rule(scene), (scene.name, name)
            held = self._tracked.get(key)
            if verdict is not None and held is None:
                self._tracked[key] = _TrackedPattern(time, verdict)
            elif verdict is not None and held is not None:
                held.verdict, held.seen, held.missed = verdict, held.seen + 1, 0
            elif held is not None:
                held.missed += 1
                if held.missed >= END_AFTER_MISSES or held.seen < CONFIRM_LOOKS:
                    del self._tracked[key]


def _tracked_from_state(stored: Mapping[str, Any]) -> _TrackedPattern:
    """The one that `asdict` made plain."""
    verdict = stored["verdict"]
    words = tuple(verdict["evidence"]), tuple(verdict["series_ids"])
    return _TrackedPattern(**{**stored, "verdict": PatternFinding(float(verdict["confidence"]), *words)})


def _rotate(places: list[int], start: int, most: int) -> list[int]:
    if len(places) <= most:
        return places
    start %= len(places)
    return (places + places)[start : start + most]


def _sum_by_entity(values: Floats, cast: EntityIndex, role: int, n: int) -> Floats:
    """Sum of a role's newest values by entity, (n,)."""
    mine = cast.role_of_column == role
    known = np.where(np.isnan(values[mine]), 0.0, values[mine])
    return np.bincount(cast.entity_of_column[mine], known, n).astype(np.float64, copy=False)


def _are_neighbours(one: Entity, other: Entity) -> bool:
    """They share a host or a namespace, or one of them calls the other by its name."""
    called = any(name in other.name for name in one.callees)
    return called or bool(one.shared_labels & other.shared_labels)


def _change_concerns(member: Entity, change: Change) -> bool:
    wanted = change.labels
    for labels in (dict(key.labels) for key in member.keys):
        both = [name for name in wanted if name in labels]
        if both and all(labels[name] == wanted[name] for name in both):
            return True
    return False
