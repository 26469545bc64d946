"""All that is felt of one source, tick by tick: series, scores, absences, anomalies. No I/O, no clock.

The same code runs live, over the logged ticks after a restart, and over a recording.
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
"""Of what `Senses.state` gives."""
REPLAY_TICKS = 1000
"""So many logged ticks bring back members that cannot be stored; what these learnt before is lost then."""
HISTORY_DOUBT_TICKS = 6
"""Within these, a series that was not yet as its history says has a history that fits badly, not an event."""


class SourceDetector:
    """One source's sensing.

    interval_s : seconds between its ticks
    replaced   : whether a series took another's place, as the source knows it
    info       : what is known of a series, and on which side it can be unusual at all
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
        """Of the newest tick."""
        self.doubt_ticks_left = 0
        """Ticks to come that still belong to the seam between history and now."""

    def step(self, tick: ClosedTick) -> TickResult:
        """Sense one tick. Ticks come in order of time."""
        self.time = tick.time
        away = self.absences.detect_gap(tick)
        if tick.is_unknown:
            self.anomalies.suspend(tick.time)
            return self._result(
                self.scoring.unknown_scores(tick.time), [], np.empty(0, np.int64), certain=False
            )
        here, came = self.table.assign_slots(tick.keys)
        self.scoring.prepare_slots(came)
        back = self.table.record_tick(tick, here, came)
        verdict = self._update_absences(tick, came, back)
        placed = self.scoring.values_by_slot(tick, here)
        where = np.full(self.table.size, tick.complete)
        where[back] = False
        scores, shifted = self.scoring.score(placed, where)
        away |= self.doubt_ticks_left == HISTORY_DOUBT_TICKS
        told = self.anomalies.step(scores, shifted, verdict, came, complete=tick.complete, after_gap=away)
        self._doubt_history()
        self.table.remove([*(gone for gone, _ in verdict.replacements), *verdict.freed.tolist()])
        return self._result(scores, told, came, certain=tick.complete)

    def _update_absences(self, tick: ClosedTick, came: Ints, back: Ints) -> PresenceChanges:
        learning = self.scoring.learning_ticks() > 0
        verdict = self.absences.update(tick, came, back, learning, self.anomalies.absent_mask())
        self.scoring.inherit(verdict.replacements)
        return verdict

    def _doubt_history(self) -> None:
        """Of series that are elsewhere right after it the history is doubted sooner than what is seen."""
        if self.doubt_ticks_left > 0:
            self.doubt_ticks_left -= 1
            self.scoring.doubt_past(self.anomalies.unarmed_slots())

    def _result(self, scores: TickScores, told: list[Anomaly], came: Ints, *, certain: bool) -> TickResult:
        shown = self.table.used & ~self.table.column("judged") & self.table.column("live")
        open_ids = self.anomalies.open_ids()
        shown[list(open_ids)] = True
        learning = self.scoring.learning_ticks()
        return TickResult(self.table.keys, scores, tuple(told), came, learning, shown, open_ids, certain)

    def current(self) -> TickResult:
        """What is known without a new tick, as after a restart: series and open anomalies, no values."""
        nothing = self.scoring.unknown_scores(self.time or 0)
        return self._result(nothing, [], np.empty(0, np.int64), certain=False)

    def warm_up(self, history: History) -> None:
        """Learn from recorded values, before the first tick."""
        self.scoring.warm_up(history)
        self.doubt_ticks_left = HISTORY_DOUBT_TICKS

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Another false-alarm budget from the next tick on."""
        self.scoring.set_budget(false_alarms_per_week)
        self.anomalies.budget = false_alarms_per_week

    def replay_from(self) -> int | None:
        """Ticks from this time on are needed beside `state`, for what it cannot hold; None = none are."""
        if self.time is None or not self.scoring.scorer.by_replay:
            return None
        return self.time - round(REPLAY_TICKS * self.interval_s * 1e9)

    def restore_replayed(self, past: "SourceDetector") -> None:
        """Complete a restored state by senses that felt the ticks before it again."""
        self.scoring.restore_replayed(past.scoring)

    def state(self) -> tuple[State, dict[str, object]]:
        """Arrays, and the rest as plain values (JSON); NaN is None there."""
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
        """Go on where `state` was taken. Raises StateError where it does not fit these settings."""
        for name, mine in (
            ("version", VERSION),
            ("interval_s", self.interval_s),
            ("detectors", list(self.scoring.detector_names)),
        ):
            if meta.get(name) != mine:
                raise StateError(
                    f"{self.source}: the stored state has {name} {meta.get(name)!r}, now it is {mine!r}"
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
