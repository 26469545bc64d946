"""Scores closed ticks: places values in slots, decides which series may learn, and calls the scorer."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from trimtab.engine.detection.series_table import SeriesTable
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.types import Floats, History, Ints, SeriesInfo, SeriesKey, Tick, TickScores
from trimtab.models.contracts import Bools, State
from trimtab.models.scorer import Scorer

MIN_RELATIVE_DEVIATION = 0.001
"""A value closer to the expected value than this ratio of it is never anomalous, however steady the series
is: a
scrape that arrives a millisecond late moves every rate by that much.
"""


class SourceScoring:
    """Scorer of one source's series, by the slots of their table."""

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
        """Names by the indices in `TickScores.detector`."""
        return tuple(self.scorer.names)

    @property
    def budget(self) -> float:
        """Anomaly intervals that a healthy series may have in a week."""
        return self.scorer.false_alarms_per_week

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Set the budget from the next tick on; the learned state stays."""
        self.scorer.false_alarms_per_week = false_alarms_per_week

    def learning_ticks(self) -> Ints:
        """Return (size,) samples that each series still needs; 0 = it is scored."""
        return self.scorer.learning_ticks()[: self.table.size]

    def prepare_slots(self, new_slots: Ints) -> None:
        """Grow to the table's capacity and reset the slots of new series."""
        self.scorer.grow(self.table.slots.capacity)
        if len(new_slots):
            self.scorer.reset(new_slots)

    def inherit(self, replacements: Iterable[tuple[int, int]]) -> None:
        """Copy the learned state of each replaced series to its replacement."""
        for gone, heir in replacements:
            self.scorer.put(np.array([heir]), self.scorer.take(np.array([gone])))

    def values_by_slot(self, tick: ClosedTick, slots: Ints) -> Tick:
        """Return the tick's values by slot, NaN = no sample."""
        values = np.full(self.table.size, np.nan)
        values[slots] = tick.values
        return Tick(tick.time, values, self.table.slots.version)

    def score(self, tick: Tick, may_learn: Bools) -> tuple[TickScores, Bools]:
        """Score a tick, then learn it where allowed.

        may_learn : (size,) bool
        Returns the scores, and (size,) bool where a lasting level shift was accepted.
        """
        size, capacity = self.table.size, self.scorer.n_series
        x, learn = np.full(capacity, np.nan), np.zeros(capacity, np.bool_)
        x[:size], learn[:size] = tick.values, may_learn
        scored = self.scorer.step(x, tick.time, learn)
        min_above, min_below, floor = self._deviation_limits()
        yhat, lower, upper = (
            np.maximum(b[:size], floor) for b in (scored.yhat, scored.yhat_lower, scored.yhat_upper)
        )
        deviation = tick.values - scored.yhat[:size]
        min_deviation = np.maximum(
            np.where(deviation > 0, min_above, min_below), MIN_RELATIVE_DEVIATION * np.abs(scored.yhat[:size])
        )
        raw = scored.anomaly_score[:size]
        score = np.where(np.abs(deviation) < min_deviation, np.minimum(raw, 0.0), raw)
        scores = TickScores(
            self.table.source, tick.time, tick.values, score, yhat, lower, upper, scored.detector[:size]
        )
        return scores, scored.shifted[:size]

    def _deviation_limits(self) -> tuple[Floats, Floats, Floats]:
        """Return (size,) arrays: minimum deviation above, minimum deviation below, lower bound of values.

        A minimum is infinite for a side that is never anomalous; the bound is 0 for non-negative units.
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
        """Let these slots relearn soon: their learned state may not hold."""
        self.scorer.doubt_past(slots)

    def unknown_scores(self, time_ns: int) -> TickScores:
        """Return the scores of a tick without any sample."""
        nothing = np.full(self.table.size, np.nan)
        none = np.full(self.table.size, -1, np.int64)
        return TickScores(self.table.source, time_ns, nothing, nothing, nothing, nothing, nothing, none)

    def warm_up(self, history: History) -> None:
        """Learn from recorded values as if they were observed live.

        A scorer of the size of this part learns it, which bounds memory by the part instead of all series.
        """
        slots, new_slots = self.table.assign_slots(history.keys)
        self.prepare_slots(new_slots)
        part_scorer, part_slots = self._build_scorer(len(slots), self.budget), np.arange(len(slots))
        part_scorer.move(self.scorer, slots, part_slots)
        if history.coarse:
            part_scorer.learn_seasons(history.values, history.times, history.step_s)
        else:
            part_scorer.run(history.values, history.times)
            self.table.column("seen")[slots] += np.count_nonzero(~np.isnan(history.values), axis=0)
        self.table.column("last")[slots] = int(history.times[-1]) if len(history.times) else 0
        self.scorer.move(part_scorer, part_slots, slots)

    def restore_replayed(self, replayed_scoring: "SourceScoring") -> None:
        """Take over, series by series, the state of detectors that only a replay can rebuild."""
        replayed_slot = {
            replayed_scoring.table.keys[slot]: slot
            for slot in np.flatnonzero(replayed_scoring.table.used).tolist()
        }
        slots = [
            slot
            for slot in np.flatnonzero(self.table.used).tolist()
            if self.table.keys[slot] in replayed_slot
        ]
        replayed = [replayed_slot[self.table.keys[slot]] for slot in slots]
        self.scorer.move(
            replayed_scoring.scorer,
            np.array(replayed, np.int64),
            np.array(slots, np.int64),
            replayed_only=True,
        )

    def state(self) -> State:
        """Return a copy of the learned state, without detectors that only a replay can rebuild."""
        return self.scorer.state()

    def restore(self, state: State) -> None:
        """Restore `state`. Raises StateError when it does not fit."""
        self.scorer.restore(state)
        self.scorer.grow(self.table.slots.capacity)

    def _build_scorer(self, n_series: int, false_alarms_per_week: float) -> Scorer:
        detectors: str | tuple[str, ...] = "default" if self.detectors == ("default",) else self.detectors
        return Scorer(n_series, self.interval_s, detectors, false_alarms_per_week)
