"""Anomalies begun by a pattern before any series is anomalous by score.

Such a pattern becomes an anomaly of its leading series and so an incident like any other. No I/O, no clock.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.types import PATTERN_DETECTOR_PREFIX, Anomaly, Direction, PatternMatch
from trimtab.engine.types.ids import derived_ulid

MIN_CONFIDENCE = 0.75
"""A pattern begins an anomaly from this confidence on, more than is needed to be attached to an incident."""
MIN_TICKS = 6
"""... and after it was recognized for this many ticks."""
MAX_SCORE = 1.0
"""Maximum score of such an anomaly: the scorer finds nothing anomalous, so its severity stays low."""
ENDED_REASON = "not recognised any more"
"""Reason why such an anomaly ended."""


class PatternAnomalies:
    """Anomalies of one source that patterns began.

    interval_s : seconds between ticks
    open       : open anomalies by id
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.open: dict[str, Anomaly] = {}

    def step(
        self, result: TickResult, matches: Sequence[PatternMatch], covers: Callable[[PatternMatch], bool]
    ) -> list[Anomaly]:
        """Return anomalies that began or ended with this tick.

        matches : all patterns recognized in this source now
        covers  : whether an active incident already concerns a pattern
        """
        time = result.scores.time
        match_by_id = {_anomaly_id(match): match for match in matches}
        changed = self.close([anomaly_id for anomaly_id in self.open if anomaly_id not in match_by_id], time)
        for anomaly_id, match in match_by_id.items():
            if anomaly_id not in self.open and self._is_confirmed(match, time) and not covers(match):
                anomaly = _make_anomaly(match, result)
                if anomaly is not None:
                    self.open[anomaly_id] = anomaly
                    changed.append(anomaly)
        return changed

    def close(self, ids: Iterable[str], time: int) -> list[Anomaly]:
        """Close anomalies by id and return them."""
        return [replace(self.open.pop(anomaly_id), end=time, reason=ENDED_REASON) for anomaly_id in list(ids)]

    def resume(self, stored: Iterable[Anomaly]) -> None:
        """Continue with the anomalies that were open when the engine stopped."""
        self.open = {anomaly.id: anomaly for anomaly in stored}

    def _is_confirmed(self, match: PatternMatch, time: int) -> bool:
        lasting_s = (time - match.since) / 1e9
        return match.confidence >= MIN_CONFIDENCE and lasting_s >= MIN_TICKS * self.interval_s


def _anomaly_id(match: PatternMatch) -> str:
    """Return an id that is the same for the same pattern, entity and start."""
    return derived_ulid(max(match.since, 0), PATTERN_DETECTOR_PREFIX, match.source, match.name, match.entity)


def _make_anomaly(match: PatternMatch, result: TickResult) -> Anomaly | None:
    """Return the anomaly of the pattern's leading series; None if that series is unknown."""
    lead = next(iter(match.series_ids), "")
    slot, key = next(((s, k) for s, k in enumerate(result.keys) if k.id == lead), (-1, None))
    if key is None:
        return None
    scores = result.scores
    value, expected = float(scores.values[slot]), float(scores.yhat[slot])
    score = float(scores.anomaly_score[slot])
    return Anomaly(
        id=_anomaly_id(match),
        series_id=key.id,
        series=str(key),
        source=key.source,
        start=match.since,
        end=None,
        peak_time=scores.time,
        score=score if math.isnan(score) else min(score, MAX_SCORE),
        direction=Direction.BELOW if value < expected else Direction.ABOVE,
        value=value,
        expected=expected,
        lower=float(scores.yhat_lower[slot]),
        upper=float(scores.yhat_upper[slot]),
        detectors=(PATTERN_DETECTOR_PREFIX + match.name,),
        labels=dict(key.labels),
    )
