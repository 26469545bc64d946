"""Closed ticks -> scores: places values in slots, says who may learn, and asks the scorer."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from trimtab.engine.detection.series_table import SeriesTable
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.types import Floats, History, Ints, SeriesInfo, SeriesKey, Tick, TickScores
from trimtab.models.contracts import Bools, State
from trimtab.models.scorer import Scorer

MIN_RELATIVE_DEVIATION = 0.001
"""Nearer to what is expected than this share of it no value is unusual for people, however steady a series
was: a scrape that comes a millisecond late moves every rate by so much."""


class SourceScoring:
    """The scorer of one source's series, by the slots of their table."""

    def __init__(
        self,
        table: SeriesTable,
        interval_s: float,
        detectors: tuple[str, ...] = ("default",),
        false_alarms_per_week: float = 1.0,
        info: Callable[[SeriesKey], SeriesInfo] = SeriesInfo,
    ) -> None:
        self.table = table
        self.info = info
        self.interval_s = interval_s
        self.detectors = detectors
        self.scorer = self._build_scorer(table.slots.capacity, false_alarms_per_week)
        self._limits_cache: tuple[int, Floats, Floats, Floats] = (-1, np.empty(0), np.empty(0), np.empty(0))

    @property
    def detector_names(self) -> tuple[str, ...]:
        """Of the detectors, as `TickScores.detector` counts them."""
        return tuple(self.scorer.names)

    @property
    def budget(self) -> float:
        """Anomaly intervals that a healthy series may show in a week."""
        return self.scorer.false_alarms_per_week

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Another budget from the next tick on; what was learnt stays."""
        self.scorer.false_alarms_per_week = false_alarms_per_week

    def learning_ticks(self) -> Ints:
        """(size,) samples that each series still needs; 0 = it is scored."""
        return self.scorer.learning_ticks()[: self.table.size]

    def prepare_slots(self, new_slots: Ints) -> None:
        """Make room for series that came, and forget who had their slots before."""
        self.scorer.grow(self.table.slots.capacity)
        if len(new_slots):
            self.scorer.reset(new_slots)

    def inherit(self, replacements: Iterable[tuple[int, int]]) -> None:
        """Each heir goes on with what the series that it replaced had learnt."""
        for gone, heir in replacements:
            self.scorer.put(np.array([heir]), self.scorer.take(np.array([gone])))

    def values_by_slot(self, tick: ClosedTick, slots: Ints) -> Tick:
        """The values by slot."""
        values = np.full(self.table.size, np.nan)
        values[slots] = tick.values
        return Tick(tick.time, values, self.table.slots.version)

    def score(self, tick: Tick, may_learn: Bools) -> tuple[TickScores, Bools]:
        """Scores of a tick, which is then learnt where allowed, and where a lasting shift was accepted."""
        size, capacity = self.table.size, self.scorer.n_series
        x, learns = np.full(capacity, np.nan), np.zeros(capacity, np.bool_)
        x[:size], learns[:size] = tick.values, may_learn
        s = self.scorer.step(x, tick.time, learns)
        above_least, below_least, floor = self._deviation_limits()
        yhat, lower, upper = (np.maximum(b[:size], floor) for b in (s.yhat, s.yhat_lower, s.yhat_upper))
        off = tick.values - s.yhat[:size]
        least = np.maximum(
            np.where(off > 0, above_least, below_least), MIN_RELATIVE_DEVIATION * np.abs(s.yhat[:size])
        )
        raw = s.anomaly_score[:size]
        score = np.where(np.abs(off) < least, np.minimum(raw, 0.0), raw)
        scores = TickScores(
            self.table.source, tick.time, tick.values, score, yhat, lower, upper, s.detector[:size]
        )
        return scores, s.shifted[:size]

    def _deviation_limits(self) -> tuple[Floats, Floats, Floats]:
        """What is said of each series: off by how much, above and below, somebody wants to hear of it; floor.

        Infinite where nobody wants to hear of that side; the floor is 0 where the unit forbids less.
        """
        version, keys = self.table.slots.version, self.table.keys
        if self._limits_cache[0] != version:
            infos = [self.info(key) for key in keys]
            above = [math.inf if i.direction == "below_expected" else i.min_deviation for i in infos]
            below = [math.inf if i.direction == "above_expected" else i.min_deviation for i in infos]
            floor = [0.0 if i.is_non_negative else -math.inf for i in infos]
            self._limits_cache = (version, np.array(above), np.array(below), np.array(floor))
        return self._limits_cache[1:]

    def doubt_past(self, slots: Ints) -> None:
        """What was learnt of these slots may not hold; that they are elsewhere is learnt soon."""
        self.scorer.doubt_past(slots)

    def unknown_scores(self, time_ns: int) -> TickScores:
        """A tick of which nothing is known."""
        nothing = np.full(self.table.size, np.nan)
        none = np.full(self.table.size, -1, np.int64)
        return TickScores(self.table.source, time_ns, nothing, nothing, nothing, nothing, nothing, none)

    def warm_up(self, history: History) -> None:
        """Learn from recorded values, as if they had been watched.

        The part of the history is learnt by a scorer of its own size, so that memory is bounded by the
        part and not by the number of series.
        """
        here, came = self.table.assign_slots(history.keys)
        self.prepare_slots(came)
        part, there = self._build_scorer(len(here), self.budget), np.arange(len(here))
        part.move(self.scorer, here, there)
        if history.coarse:
            part.learn_seasons(history.values, history.times, history.step_s)
        else:
            part.run(history.values, history.times)
            self.table.column("seen")[here] += np.count_nonzero(~np.isnan(history.values), axis=0)
        self.table.column("last")[here] = int(history.times[-1]) if len(history.times) else 0
        self.scorer.move(part, there, here)

    def restore_replayed(self, past: "SourceScoring") -> None:
        """Take over, series by series, those members of a replayed past that come back by replay only."""
        theirs = {past.table.keys[slot]: slot for slot in np.flatnonzero(past.table.used).tolist()}
        here = [slot for slot in np.flatnonzero(self.table.used).tolist() if self.table.keys[slot] in theirs]
        there = [theirs[self.table.keys[slot]] for slot in here]
        self.scorer.move(past.scorer, np.array(there, np.int64), np.array(here, np.int64), replayed_only=True)

    def state(self) -> State:
        """A copy of what was learnt, but for members that come back by replay only."""
        return self.scorer.state()

    def restore(self, state: State) -> None:
        """Go on from there. Raises StateError where it does not fit."""
        self.scorer.restore(state)
        self.scorer.grow(self.table.slots.capacity)

    def _build_scorer(self, n_series: int, false_alarms_per_week: float) -> Scorer:
        detectors: str | tuple[str, ...] = "default" if self.detectors == ("default",) else self.detectors
        return Scorer(n_series, self.interval_s, detectors, false_alarms_per_week)
