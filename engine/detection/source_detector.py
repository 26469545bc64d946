"""Detection for one source: series, scores, absences and anomalies, tick by tick. No I/O, no clock.

The same code runs live, on the logged ticks after a restart, and on a recording.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from trimtab.engine.detection.absence_tracker import AbsenceTracker, IsReplacement, PresenceChanges
from trimtab.engine.detection.anomaly_tracker import AnomalyTracker, arrays_with_prefix
from trimtab.engine.detection.series_table import SeriesTable
from trimtab.engine.detection.source_scoring import SourceScoring
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.types import Anomaly, History, Ints, SeriesInfo, SeriesKey, TickScores
from trimtab.models.contracts import State
from trimtab.models.errors import StateError

VERSION = 1
"""Version of the state of `SourceDetector.state`."""
REPLAY_TICKS = 1000
"""Logged ticks that rebuild detectors whose state cannot be stored; what they learned earlier is lost."""
HISTORY_DOUBT_TICKS = 6
"""A series that differs from its history within its first ticks has an unsuitable history, not an anomaly."""


class SourceDetector:
    """Detects anomalies of one source.

    interval_s            : seconds between ticks
    is_replacement        : (old, new) -> whether the new series replaces the old one, as the source knows it
    detectors             : names of the detectors
    false_alarms_per_week : budget of anomaly intervals per healthy series and week
    max_series            : above this number of series, slots of absent series are freed early
    info                  : metadata of a series: unit, direction, minimum deviation
    """

    def __init__(
        self,
        source: str,
        interval_s: float,
        is_replacement: IsReplacement,
        detectors: tuple[str, ...] = ("default",),
        false_alarms_per_week: float = 1.0,
        max_series: int = 20_000,
        info: Callable[[SeriesKey], SeriesInfo] = SeriesInfo,
    ) -> None:
        self.source = source
        self.interval_s = interval_s
        self.table = SeriesTable(source)
        self.absences = AbsenceTracker(
            self.table, interval_s, is_replacement, max_slots=max_series + max_series // 4, info=info
        )
        self.scoring = SourceScoring(self.table, interval_s, detectors, false_alarms_per_week, info)
        self.anomalies = AnomalyTracker(
            self.table, self.scoring.detector_names, interval_s, false_alarms_per_week
        )
        self.time: int | None = None
        """int64 ns of the newest tick; None before the first."""
        self.doubt_ticks_left = 0
        """Ticks left in which a deviation is attributed to an unsuitable history."""

    def step(self, tick: ClosedTick) -> TickResult:
        """Process one tick. Ticks must be in order of time."""
        self.time = tick.time
        after_gap = self.absences.detect_gap(tick)
        if tick.is_unknown:
            self.anomalies.suspend(tick.time)
            return self._result(
                self.scoring.unknown_scores(tick.time), [], np.empty(0, np.int64), certain=False
            )
        slots, new_slots = self.table.assign_slots(tick.keys)
        self.scoring.prepare_slots(new_slots)
        returned = self.table.record_tick(tick, slots, new_slots)
        presence = self._update_absences(tick, new_slots, returned)
        values = self.scoring.values_by_slot(tick, slots)
        may_learn = np.full(self.table.size, tick.complete)
        may_learn[returned] = False
        scores, shifted = self.scoring.score(values, may_learn)
        after_gap |= self.doubt_ticks_left == HISTORY_DOUBT_TICKS
        anomalies = self.anomalies.step(
            scores, shifted, presence, new_slots, complete=tick.complete, after_gap=after_gap
        )
        self._doubt_history()
        self.table.remove([*(gone for gone, _ in presence.replacements), *presence.freed.tolist()])
        return self._result(scores, anomalies, new_slots, certain=tick.complete)

    def _update_absences(self, tick: ClosedTick, new_slots: Ints, returned: Ints) -> PresenceChanges:
        learning = self.scoring.learning_ticks() > 0
        presence = self.absences.update(tick, new_slots, returned, learning, self.anomalies.absent_mask())
        self.scoring.inherit(presence.replacements)
        return presence

    def _doubt_history(self) -> None:
        """Let series that deviate right after their history was read relearn sooner."""
        if self.doubt_ticks_left > 0:
            self.doubt_ticks_left -= 1
            self.scoring.doubt_past(self.anomalies.unarmed_slots())

    def _result(
        self, scores: TickScores, anomalies: list[Anomaly], new_slots: Ints, *, certain: bool
    ) -> TickResult:
        visible = self.table.used & ~self.table.column("judged") & self.table.column("live")
        open_ids = self.anomalies.open_ids()
        visible[list(open_ids)] = True
        learning = self.scoring.learning_ticks()
        return TickResult(
            self.table.keys, scores, tuple(anomalies), new_slots, learning, visible, open_ids, certain
        )

    def current(self) -> TickResult:
        """Return series and open anomalies without a new tick, for example after a restart."""
        nothing = self.scoring.unknown_scores(self.time or 0)
        return self._result(nothing, [], np.empty(0, np.int64), certain=False)

    def warm_up(self, history: History) -> None:
        """Learn from recorded values, before the first tick."""
        self.scoring.warm_up(history)
        self.doubt_ticks_left = HISTORY_DOUBT_TICKS

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Set the false-alarm budget from the next tick on."""
        self.scoring.set_budget(false_alarms_per_week)
        self.anomalies.budget = false_alarms_per_week

    def replay_from(self) -> int | None:
        """Return the time, int64 ns, from which logged ticks complete `state`; None if none are needed."""
        if self.time is None or not self.scoring.scorer.by_replay:
            return None
        return self.time - round(REPLAY_TICKS * self.interval_s * 1e9)

    def restore_replayed(self, past: "SourceDetector") -> None:
        """Complete a restored state with detectors that another instance rebuilt by replay."""
        self.scoring.restore_replayed(past.scoring)

    def state(self) -> tuple[State, dict[str, object]]:
        """Return arrays and plain values (JSON); NaN is stored as None."""
        events, open_events = self.anomalies.state()
        arrays = {f"scorer/{name}": part for name, part in self.scoring.state().items()}
        arrays |= {f"habits/{name}": part for name, part in self.table.state().items()} | events
        meta: dict[str, object] = {
            "version": VERSION,
            "interval_s": self.interval_s,
            "detectors": list(self.scoring.detector_names),
            "layout": self.table.layout(),
            "answers": self.table.complete_scrapes,
            "settling": self.absences.scrapes_until_settled,
            "last_time": self.absences.last_time,
            "departures": dict(self.absences.departures),
            "events": [_without_nan(event) for event in open_events],
            "time": self.time,
            "seam": self.doubt_ticks_left,
        }
        return arrays, meta

    def restore(self, arrays: State, meta: dict[str, Any]) -> None:
        """Restore `state`. Raises StateError when it does not fit the version, interval or detectors."""
        for name, mine in (
            ("version", VERSION),
            ("interval_s", self.interval_s),
            ("detectors", list(self.scoring.detector_names)),
        ):
            if meta.get(name) != mine:
                raise StateError(
                    f"{self.source}: the stored state has {name} {meta.get(name)!r}, expected {mine!r}"
                )
        self.table.restore(meta["layout"], arrays_with_prefix("habits/", arrays), int(meta["answers"]))
        self.absences.scrapes_until_settled = int(meta["settling"])
        self.absences.last_time = meta["last_time"]
        self.absences.departures = Counter(meta["departures"])
        self.scoring.restore(arrays_with_prefix("scorer/", arrays))
        self.anomalies.restore(arrays, meta["events"])
        self.time = meta["time"]
        self.doubt_ticks_left = int(meta.get("seam", 0))


def _without_nan(event: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
