"""Opens, updates and closes anomalies from scores and absences: direction, expected band, detectors."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from ulid import ULID

from trimtab.engine.detection.absence_tracker import PresenceChanges
from trimtab.engine.detection.series_table import SeriesTable
from trimtab.engine.types import Anomaly, Direction, Ints, SeriesKey, TickScores
from trimtab.models.bank import StateArrays, StateField
from trimtab.models.calibration.alarms import Alarms
from trimtab.models.contracts import Bools, Floats, State
from trimtab.models.scorer import WEEK_S

RECOVERED, SHIFTED, RETURNED = "recovered", "level shift accepted", "returned"
REPLACED, VANISHED, GONE = "replaced", "vanished", "gone"
"""Reasons why an anomaly ended."""
ABSENCE = "absence"
"""Detector name of an absence anomaly."""
REARM_NS = 3_600_000_000_000
"""After a gap a series opens no anomaly until it was normal once, or until this much time passed: a level
that
changed while nothing was observed is not a new event. The score is still published.
"""
REPORT_GROWTH = 1.1
"""An open anomaly is published again when its peak score grew by this factor."""


def anomaly_id(key: SeriesKey, start: int, kind: str) -> str:
    """Return the anomaly's id: a ULID of its start that is the same for the same series, start and kind.

    A ULID cannot hold times before 1970: earlier starts get the time 0.

    >>> anomaly_id(SeriesKey.of("host", "load1"), 1_500_000_000, "score")
    '00000001EW8GRN95QDEJKXPRJQ'
    """
    tail = hashlib.blake2b(f"{key.id}\0{start}\0{kind}".encode(), digest_size=10).digest()
    return str(ULID(max(start // 1_000_000, 0).to_bytes(6, "big") + tail))


@dataclass(slots=True)
class OpenAnomaly:
    """An open anomaly. Its fields are part of the stored state.

    score, peak_time, value, expected, lower, upper : at the peak, as in `Anomaly`
    last      : int64 ns, newest tick with a score above 1
    told      : peak score when the anomaly was last published
    detectors : name -> its largest score while it had the strongest score
    """

    slot: int
    start: int
    direction: Direction
    peak_time: int
    score: float
    value: float = math.nan
    expected: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    last: int = 0
    told: float = 0.0
    detectors: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Either "absence" or "score"; part of the anomaly's id."""
        return ABSENCE if self.direction is Direction.ABSENT else "score"


class AnomalyTracker:
    """Tracks the anomalies of one source's series.

    detector_names : names by the indices in `TickScores.detector`
    interval_s     : seconds between ticks
    budget         : anomaly intervals that a healthy series may have in a week
    """

    def __init__(
        self, table: SeriesTable, detector_names: tuple[str, ...], interval_s: float, budget: float
    ) -> None:
        self.table = table
        self.detector_names = detector_names
        self.interval_s = interval_s
        self.budget = budget
        self.alarms = Alarms(table.slots.capacity)
        self.open: dict[int, OpenAnomaly] = {}
        self.open_absences: dict[int, OpenAnomaly] = {}
        """Open anomalies by slot: `open` by score, `open_absences` by absence."""
        self._rearm = StateArrays({"until": StateField(np.int64)}, table.slots.capacity)
        self._changed: list[Anomaly] = []

    def absent_mask(self) -> Bools:
        """Return (size,) bool: series with an open absence anomaly."""
        return self._mask(self.open_absences)

    def open_ids(self) -> dict[int, str]:
        """Return slot -> id of its open anomaly."""
        both = {**self.open, **self.open_absences}
        return {slot: anomaly_id(self.table.keys[slot], e.start, e.kind) for slot, e in both.items()}

    def step(
        self,
        scores: TickScores,
        shifted: Bools,
        presence: PresenceChanges,
        new_slots: Ints,
        *,
        complete: bool,
        after_gap: bool,
    ) -> list[Anomaly]:
        """Return the anomalies that opened, closed or grew in this tick.

        shifted   : (size,) bool, a lasting level shift was accepted
        presence  : which series left or returned
        new_slots : slots of new series
        complete  : the scrape was complete; otherwise no score opens or closes an anomaly
        after_gap : the source was not observed before this tick, or only its history was read
        """
        self._changed = []
        self._resize(new_slots)
        self._apply_presence(presence, scores)
        until = self._rearm.values["until"]
        until[presence.returned] = scores.time + REARM_NS
        if after_gap:
            until[:] = scores.time + REARM_NS
        if complete:
            self._update_alarms(scores, shifted)
        return self._changed

    def unarmed_slots(self) -> Ints:
        """Return slots that were not normal yet since the last gap."""
        slots: Ints = np.flatnonzero(self._rearm.values["until"][: self.table.size])
        return slots

    def suspend(self, time_ns: int) -> None:
        """Disarm all series because the source does not answer; nothing opens or closes."""
        self._rearm.values["until"][:] = time_ns + REARM_NS

    def close_all(self, time_ns: int, reason: str) -> list[Anomaly]:
        """Close all open anomalies, for example when the source is removed."""
        self._changed = []
        for events in (self.open, self.open_absences):
            for slot in list(events):
                self._close(events, slot, time_ns, reason)
        return self._changed

    def _resize(self, new_slots: Ints) -> None:
        capacity = self.table.slots.capacity
        self.alarms.grow(capacity)
        self._rearm.grow(capacity)
        if len(new_slots):
            self.alarms.reset(new_slots)
            self._rearm.reset(new_slots)

    def _apply_presence(self, presence: PresenceChanges, scores: TickScores) -> None:
        time = scores.time
        for slot in presence.returned.tolist():
            self._close(self.open_absences, slot, time, RETURNED)
        for old, new in presence.replacements:
            self._close(self.open_absences, old, time, REPLACED)
            self._close(self.open, old, time, REPLACED)
            self._close(self.open, new, time, REPLACED)
            self.alarms.reset(np.array([old, new]))
            self._rearm.values["until"][new] = time + REARM_NS
        for slot in presence.freed.tolist():
            self._close(self.open_absences, slot, time, GONE)
            self._close(self.open, slot, time, GONE)
        for slot in presence.vanished.tolist():
            self._close(self.open, slot, time, VANISHED)
            self._open_absence(slot, scores)
        self.alarms.reset(np.concatenate([presence.freed, presence.vanished]))

    def _open_absence(self, slot: int, scores: TickScores) -> None:
        surprise = self._absence_score(int(self.table.column("seen")[slot]))
        ticks_ago = int(self.table.column("missing")[slot]) - 1
        start = scores.time - round(ticks_ago * self.interval_s * 1e9)
        event = OpenAnomaly(slot, start, Direction.ABSENT, start, surprise, detectors={ABSENCE: surprise})
        event.expected, event.lower, event.upper = _band(scores, slot)
        self.open_absences[slot] = event
        self._report(event)

    def _absence_score(self, seen: int) -> float:
        """Return the anomaly score of an absence: it never occurred in `seen` ticks before."""
        allowed = min(0.1, self.budget * self.interval_s / WEEK_S)
        return max(1.0, math.log(1.0 / (seen + 1.0)) / math.log(allowed))

    def _update_alarms(self, scores: TickScores, shifted: Bools) -> None:
        size, until = self.table.size, self._rearm.values["until"]
        alarm_scores = np.full(self.alarms.n_series, np.nan)
        alarm_scores[:size] = scores.anomaly_score
        unarmed = until > 0
        is_rearmed = (alarm_scores <= 1.0) | (until <= scores.time)
        until[is_rearmed] = 0
        unarmed &= until > 0
        until[:size][shifted] = 0
        alarm_scores[unarmed & ~self._mask(self.open, len(alarm_scores))] = np.nan
        opened, closed = self.alarms.step(alarm_scores, scores.time)
        for slot in opened.tolist():
            self.open[slot] = OpenAnomaly(slot, scores.time, Direction.ABOVE, scores.time, -math.inf)
        for event in self.open.values():
            self._update_open(event, scores)
        for slot in closed.tolist():
            self._close(self.open, slot, self.open[slot].last, RECOVERED)
        accepted = [slot for slot in self.open if shifted[slot]]
        for slot in accepted:
            self._close(self.open, slot, scores.time, SHIFTED)
        self.alarms.close(np.array(accepted, np.int64))

    def _update_open(self, event: OpenAnomaly, scores: TickScores) -> None:
        score, slot = float(scores.anomaly_score[event.slot]), event.slot
        if math.isnan(score):
            return
        detector = int(scores.detector[slot])
        if detector >= 0 and score > 1.0:
            name = self.detector_names[detector]
            event.detectors[name] = max(score, event.detectors.get(name, score))
        if score > 1.0:
            event.last = scores.time
        if score > event.score:
            event.score, event.peak_time, event.value = score, scores.time, float(scores.values[slot])
            event.expected, event.lower, event.upper = _band(scores, slot)
            event.direction = direction_of(event.value, event.expected, event.lower, event.upper)
        if event.score > REPORT_GROWTH * event.told:
            self._report(event)

    def _report(self, event: OpenAnomaly, end: int | None = None, reason: str = "") -> None:
        event.told = event.score
        key = self.table.keys[event.slot]
        detectors = sorted(event.detectors, key=lambda name: (-event.detectors[name], name))
        self._changed.append(
            Anomaly(
                id=anomaly_id(key, event.start, event.kind), series_id=key.id, series=str(key),
                source=key.source, start=event.start, end=end, peak_time=event.peak_time, score=event.score,
                direction=event.direction, value=event.value, expected=event.expected, lower=event.lower,
                upper=event.upper, detectors=tuple(detectors), reason=reason, labels=dict(key.labels),
            )
        )  # fmt: skip

    def _close(self, events: dict[int, OpenAnomaly], slot: int, time_ns: int, reason: str) -> None:
        if slot in events:
            self._report(events[slot], time_ns, reason)
            del events[slot]

    def _mask(self, events: Iterable[int], size: int | None = None) -> Bools:
        marks = np.zeros(self.table.size if size is None else size, np.bool_)
        marks[list(events)] = True
        return marks

    def state(self) -> tuple[State, list[dict[str, Any]]]:
        """Return arrays, and the open anomalies as plain values."""
        arrays = {f"alarms/{name}": part for name, part in self.alarms.state().items()}
        arrays |= {f"unarmed/{name}": part for name, part in self._rearm.state().items()}
        return arrays, [asdict(event) for event in (*self.open.values(), *self.open_absences.values())]

    def restore(self, arrays: State, events: Iterable[dict[str, Any]]) -> None:
        """Restore `state`; None in a stored anomaly is NaN. Raises StateError when it does not fit."""
        self.alarms.restore(arrays_with_prefix("alarms/", arrays))
        self._rearm.restore(arrays_with_prefix("unarmed/", arrays))
        self.open, self.open_absences = {}, {}
        for stored in events:
            known: dict[str, Any] = {k: math.nan if v is None else v for k, v in stored.items()}
            known["direction"] = Direction(known["direction"])
            event = OpenAnomaly(**known)
            (self.open_absences if event.direction is Direction.ABSENT else self.open)[event.slot] = event


def direction_of(value: float, expected: float, lower: float, upper: float) -> Direction:
    """Return on which side of its expected band a value lies; inside the band, of the expected value.

    >>> direction_of(9.0, 5.0, 4.0, 6.0), direction_of(4.5, 5.0, 4.0, 6.0)
    (<Direction.ABOVE: 'above'>, <Direction.BELOW: 'below'>)
    """
    if value > upper:
        return Direction.ABOVE
    if value < lower:
        return Direction.BELOW
    return Direction.BELOW if value < expected else Direction.ABOVE


def _band(scores: TickScores, slot: int) -> tuple[float, float, float]:
    columns: tuple[Floats, ...] = (scores.yhat, scores.yhat_lower, scores.yhat_upper)
    expected, lower, upper = (float(column[slot]) for column in columns)
    return expected, lower, upper


def arrays_with_prefix(start: str, arrays: State) -> State:
    """Return the arrays whose names start with a prefix, keyed by the rest of the name."""
    return {name[len(start) :]: part for name, part in arrays.items() if name.startswith(start)}
