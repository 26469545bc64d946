"""Patterns that are there before any series is unusual: each is an anomaly of the series that leads it.

So it goes the way of all others: an incident with a picture, under one identifier. No I/O, no clock.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.types import PATTERN_DETECTOR_PREFIX, Anomaly, Direction, PatternMatch
from trimtab.engine.types.ids import derived_ulid

MIN_CONFIDENCE = 0.75
"""A pattern begins an anomaly from this confidence on: more than is needed to name an incident."""
MIN_TICKS = 6
"""... and not before it was seen for so many ticks."""
MAX_SCORE = 1.0
"""Its score at most: the scorer finds nothing unusual, so it is told as what hurts nobody yet."""
ENDED_REASON = "not recognised any more"
"""Reason why it ended."""


class PatternAnomalies:
    """Those of one source.

    interval_s : seconds between its ticks
    open       : those that go on, by the key of their match
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.open: dict[str, Anomaly] = {}

    def step(
        self, sensed: TickResult, matches: Sequence[PatternMatch], covers: Callable[[PatternMatch], bool]
    ) -> list[Anomaly]:
        """Those that began or ended with this tick.

        matches : all that is recognised in this source now
        covers  : whether an incident that goes on has to do with it already
        """
        time = sensed.scores.time
        now = {_anomaly_id(match): match for match in matches}
        told = self.close([name for name in self.open if name not in now], time)
        for name, match in now.items():
            if name not in self.open and self._is_confirmed(match, time) and not covers(match):
                begun = _make_anomaly(match, sensed)
                if begun is not None:
                    self.open[name] = begun
                    told.append(begun)
        return told

    def close(self, names: Iterable[str], time: int) -> list[Anomaly]:
        """These are over."""
        return [replace(self.open.pop(name), end=time, reason=ENDED_REASON) for name in list(names)]

    def resume(self, stored: Iterable[Anomaly]) -> None:
        """Go on with those that were open when the engine stopped."""
        self.open = {anomaly.id: anomaly for anomaly in stored}

    def _is_confirmed(self, match: PatternMatch, time: int) -> bool:
        lasting_s = (time - match.since) / 1e9
        return match.confidence >= MIN_CONFIDENCE and lasting_s >= MIN_TICKS * self.interval_s


def _anomaly_id(match: PatternMatch) -> str:
    """The same for the same pattern of an entity, whenever it is found again."""
    return derived_ulid(max(match.since, 0), PATTERN_DETECTOR_PREFIX, match.source, match.name, match.entity)


def _make_anomaly(match: PatternMatch, sensed: TickResult) -> Anomaly | None:
    """The anomaly of its leading series; None = that is not watched."""
    lead = next(iter(match.series_ids), "")
    slot, key = next(((s, k) for s, k in enumerate(sensed.keys) if k.id == lead), (-1, None))
    if key is None:
        return None
    scores = sensed.scores
    value, expected = float(scores.values[slot]), float(scores.yhat[slot])
    score = float(scores.anomaly_score[slot])
    return Anomaly(
        id=_anomaly_id(match), series_id=key.id, series=str(key), source=key.source, start=match.since, end=None,
        peak_time=scores.time, score=score if math.isnan(score) else min(score, MAX_SCORE),
        direction=Direction.BELOW if value < expected else Direction.ABOVE, value=value, expected=expected,
        lower=float(scores.yhat_lower[slot]), upper=float(scores.yhat_upper[slot]),
        detectors=(PATTERN_DETECTOR_PREFIX + match.name,), labels=dict(key.labels),
    )  # fmt: skip
