"""Watches one source's ticks for patterns and restarts.

Its state is part of the source's snapshot, and the ticks since then are replayed, so that a restart of the
engine continues where it was. No I/O, no clock.
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
"""A window has at least this many ticks, however long the interval."""
_ARRAY_PREFIX = "patterns/"


class PatternWatcher:
    """Recognizes patterns and restarts of one source.

    interval_s : seconds between ticks
    info       : metadata of a series
    window_s   : seconds of history that patterns use
    changes    : int64 ns -> change events of the half hour before
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

    def observe(self, result: TickResult) -> tuple[list[PatternMatch], list[tuple[SeriesKey, int]]]:
        """Return the patterns recognized in a tick, and (series, int64 ns) of detected restarts."""
        scores = result.scores
        changes = self._changes(scores.time)
        matches = self.recognizer.step(scores.time, result.keys, scores, result.open_ids, changes)
        return matches, self.restart_detector.step(scores.time, self.recognizer.index, scores.values)

    def state(self) -> tuple[State, dict[str, Any]]:
        """Return arrays and plain values (JSON)."""
        arrays, known = self.recognizer.state()
        prefixed = {_ARRAY_PREFIX + name: part for name, part in arrays.items()}
        return prefixed, {"patterns": {**known, "started": self.restart_detector.state()}}

    def restore(self, arrays: State, meta: dict[str, Any]) -> None:
        """Restore `state`; a state without patterns is ignored.

        Raises KeyError, TypeError or ValueError when the state does not fit; then nothing changes.
        """
        stored = meta.get("patterns")
        if stored is None:
            return
        started = {str(series_id): float(value) for series_id, value in stored["started"].items()}
        own_arrays = {
            name.removeprefix(_ARRAY_PREFIX): part
            for name, part in arrays.items()
            if name.startswith(_ARRAY_PREFIX)
        }
        self.recognizer.restore(own_arrays, stored)
        self.restart_detector.restore(started)
