"""Scores and absences -> anomalies: one an event, with direction, expected band and detectors."""

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
"""Stands among the detectors of an absence anomaly."""
REARM_NS = 3_600_000_000_000
"""After a gap, as between its history and now, a series opens no anomaly until it was seen as usual once, for
this long at most: that it is elsewhere after a time in which nobody looked is no event of now. Its score is
shown all the while."""
REPORT_GROWTH = 1.1
"""A peak that grew by this factor is told again while the anomaly is open."""


def anomaly_id(key: SeriesKey, start: int, kind: str) -> str:
    """A ULID of the start; the same anomaly has the same id whenever it is found again.

    A ULID knows no time before 1970: what began earlier is listed as if it had begun then.

    >>> anomaly_id(SeriesKey.of("host", "load1"), 1_500_000_000, "score")
    '00000001EW8GRN95QDEJKXPRJQ'
    """
    tail = hashlib.blake2b(f"{key.id}\0{start}\0{kind}".encode(), digest_size=10).digest()
    return str(ULID(max(start // 1_000_000, 0).to_bytes(6, "big") + tail))


@dataclass(slots=True)
class OpenAnomaly:
    """An anomaly while it is open.

    score, peak_time, value, expected, lower, upper : at the peak, as in `Anomaly`
    last      : int64 ns, the newest tick with a score above 1
    told      : the peak score that was told last
    detectors : name -> its largest score while it was the strongest
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
        """Which of the two kinds it is."""
        return ABSENCE if self.direction is Direction.ABSENT else "score"


class AnomalyTracker:
    """Opens, follows and closes the anomalies of one source's series."""

    def __init__(
        self, table: SeriesTable, detector_names: tuple[str, ...], interval_s: float, budget: float
    ) -> None:
        self.table = table
        self.detector_names = detector_names
        self.interval_s = interval_s
        self.budget = budget
        """Anomaly intervals that a healthy series may show in a week."""
        self.alarms = Alarms(table.slots.capacity)
        self.open: dict[int, OpenAnomaly] = {}
        self.open_absences: dict[int, OpenAnomaly] = {}
        """Open anomalies by slot: of scores, and of absence."""
        self._rearm = StateArrays({"until": StateField(np.int64)}, table.slots.capacity)
        self._changed: list[Anomaly] = []

    def absent_mask(self) -> Bools:
        """(size,) series with an open absence anomaly."""
        return self._mask(self.open_absences)

    def open_ids(self) -> dict[int, str]:
        """Slot -> id of its open anomaly."""
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
        """What opened, closed or grew with this tick.

        shifted : (size,) where a lasting level shift was accepted
        came    : slots that are new
        certain : the source answered whole: else no score opens or closes anything
        away    : nobody looked before this tick: the source was away, or there is but its history
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
        """Slots that were not seen as usual since nobody looked."""
        slots: Ints = np.flatnonzero(self._rearm.values["until"][: self.table.size])
        return slots

    def suspend(self, time_ns: int) -> None:
        """The source does not answer: nothing is concluded, and what comes next is looked at with care."""
        self._rearm.values["until"][:] = time_ns + REARM_NS

    def close_all(self, time_ns: int, reason: str) -> list[Anomaly]:
        """End everything, because nobody watches any more."""
        self._changed = []
        for events in (self.open, self.open_absences):
            for slot in list(events):
                self._close(events, slot, time_ns, reason)
        return self._changed

    def _resize(self, came: Ints) -> None:
        capacity = self.table.slots.capacity
        self.alarms.grow(capacity)
        self._rearm.grow(capacity)
        if len(came):
            self.alarms.reset(came)
            self._rearm.reset(came)

    def _apply_presence(self, verdict: PresenceChanges, scores: TickScores) -> None:
        time = scores.time
        for slot in verdict.returned.tolist():
            self._close(self.open_absences, slot, time, RETURNED)
        for gone, heir in verdict.replacements:
            self._close(self.open_absences, gone, time, REPLACED)
            self._close(self.open, gone, time, REPLACED)
            self._close(self.open, heir, time, REPLACED)
            self.alarms.reset(np.array([gone, heir]))
            self._rearm.values["until"][heir] = time + REARM_NS
        for slot in verdict.freed.tolist():
            self._close(self.open_absences, slot, time, GONE)
            self._close(self.open, slot, time, GONE)
        for slot in verdict.vanished.tolist():
            self._close(self.open, slot, time, VANISHED)
            self._open_absence(slot, scores)
        self.alarms.reset(np.concatenate([verdict.freed, verdict.vanished]))

    def _open_absence(self, slot: int, scores: TickScores) -> None:
        surprise = self._absence_score(int(self.table.column("seen")[slot]))
        ticks_ago = int(self.table.column("missing")[slot]) - 1
        start = scores.time - round(ticks_ago * self.interval_s * 1e9)
        event = OpenAnomaly(slot, start, Direction.ABSENT, start, surprise, detectors={ABSENCE: surprise})
        event.expected, event.lower, event.upper = _band(scores, slot)
        self.open_absences[slot] = event
        self._report(event)

    def _absence_score(self, seen: int) -> float:
        """How rare an absence is against the budget, as scores are: it never happened in `seen` ticks."""
        allowed = min(0.1, self.budget * self.interval_s / WEEK_S)
        return max(1.0, math.log(1.0 / (seen + 1.0)) / math.log(allowed))

    def _update_alarms(self, scores: TickScores, shifted: Bools) -> None:
        size, until = self.table.size, self._rearm.values["until"]
        heard = np.full(self.alarms.n_series, np.nan)
        heard[:size] = scores.anomaly_score
        deaf = until > 0
        usual = (heard <= 1.0) | (until <= scores.time)
        until[usual] = 0
        deaf &= until > 0
        until[:size][shifted] = 0
        heard[deaf & ~self._mask(self.open, len(heard))] = np.nan
        opened, closed = self.alarms.step(heard, scores.time)
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
        speaker = int(scores.detector[slot])
        if speaker >= 0 and score > 1.0:
            name = self.detector_names[speaker]
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
        strongest_first = sorted(event.detectors, key=lambda name: (-event.detectors[name], name))
        self._changed.append(
            Anomaly(
                id=anomaly_id(key, event.start, event.kind), series_id=key.id, series=str(key),
                source=key.source, start=event.start, end=end, peak_time=event.peak_time, score=event.score,
                direction=event.direction, value=event.value, expected=event.expected, lower=event.lower,
                upper=event.upper, detectors=tuple(strongest_first), reason=reason, labels=dict(key.labels),
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
        """Arrays and the open events."""
        arrays = {f"alarms/{name}": part for name, part in self.alarms.state().items()}
        arrays |= {f"unarmed/{name}": part for name, part in self._rearm.state().items()}
        return arrays, [asdict(event) for event in (*self.open.values(), *self.open_absences.values())]

    def restore(self, arrays: State, events: Iterable[dict[str, Any]]) -> None:
        """Go on where `state` was taken; numbers that are None were NaN. Raises StateError."""
        self.alarms.restore(arrays_with_prefix("alarms/", arrays))
        self._rearm.restore(arrays_with_prefix("unarmed/", arrays))
        self.open, self.open_absences = {}, {}
        for stored in events:
            known: dict[str, Any] = {k: math.nan if v is None else v for k, v in stored.items()}
            known["direction"] = Direction(known["direction"])
            event = OpenAnomaly(**known)
            (self.open_absences if event.direction is Direction.ABSENT else self.open)[event.slot] = event


def direction_of(value: float, expected: float, lower: float, upper: float) -> Direction:
    """On which side of its expected band a value lies; inside it, on which side of what was expected.

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
    """The arrays whose names begin so, by the rest of their names."""
    return {name[len(start) :]: part for name, part in arrays.items() if name.startswith(start)}
