"""What is looked at in one source's ticks beside scores: patterns, those that begin anomalies, restarts.

Its state goes with the source's snapshot, and the ticks since are looked at again, so that a restart of the
engine goes on where it was. No I/O, no clock.
"""

from collections.abc import Callable, Iterable
from typing import Any

from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.patterns.pattern_anomalies import PatternAnomalies
from trimtab.engine.patterns.pattern_recognizer import PatternRecognizer
from trimtab.engine.patterns.restart_detector import RestartDetector
from trimtab.engine.types import Change, PatternMatch, SeriesInfo, SeriesKey
from trimtab.models.contracts import State

MIN_ROWS = 120
"""A source of long intervals needs so many ticks, whatever time they take."""
_ARRAY_PREFIX = "patterns/"


class PatternWatcher:
    """Of one source.

    interval_s : seconds between its ticks;  window_s : how far back patterns look
    changes    : those of the half hour before a time
    """

    def __init__(
        self,
        interval_s: float,
        info: Callable[[SeriesKey], SeriesInfo],
        window_s: float,
        changes: Callable[[int], Iterable[Change]],
    ) -> None:
        self.info = info
        self.recognizer = PatternRecognizer(interval_s, info, max(window_s, MIN_ROWS * interval_s))
        self.anomalies = PatternAnomalies(interval_s)
        self.restart_detector = RestartDetector(info)
        self._changes = changes

    def observe(self, sensed: TickResult) -> tuple[list[PatternMatch], list[tuple[SeriesKey, int]]]:
        """What a tick looks like: patterns that are recognised, and restarts that were seen."""
        scores = sensed.scores
        changes = self._changes(scores.time)
        matches = self.recognizer.step(scores.time, sensed.keys, scores, sensed.open_ids, changes)
        return matches, self.restart_detector.step(scores.time, self.recognizer.index, scores.values)

    def state(self) -> tuple[State, dict[str, Any]]:
        """Arrays, and the rest as plain values (JSON)."""
        arrays, known = self.recognizer.state()
        prefixed = {_ARRAY_PREFIX + name: part for name, part in arrays.items()}
        return prefixed, {"patterns": {**known, "started": self.restart_detector.state()}}

    def restore(self, arrays: State, meta: dict[str, Any]) -> None:
        """Go on where `state` was taken; one that was not taken is left alone.

        Raises KeyError, TypeError or ValueError where it is another thing; nothing is changed then.
        """
        known = meta.get("patterns")
        if known is None:
            return
        started = {str(series_id): float(value) for series_id, value in known["started"].items()}
        mine = {
            name.removeprefix(_ARRAY_PREFIX): part
            for name, part in arrays.items()
            if name.startswith(_ARRAY_PREFIX)
        }
        self.recognizer.restore(mine, known)
        self.restart_detector.restore(started)
