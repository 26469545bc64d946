"""Assembles samples into closed ticks: one value per series and interval, in any order of arrival."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from trimtab.engine.types import Floats, Ints, Reading, SeriesKey
from trimtab.models.contracts import Bools

EARLY_DIVISOR = 4
"""A sample up to a quarter of the interval early counts for the tick, because clocks differ."""
_NO_SAMPLE = -(2**62)


@dataclass(frozen=True, slots=True)
class ClosedTick:
    """The samples of one source in one interval.

    time     : int64 ns, a multiple of the interval
    keys     : series in the answer; the identical tuple of the Reading when one reading made the tick
    values   : (n,) float64 by key, NaN = no sample in this interval
    complete : the answer was complete: a series missing from `keys` does not exist any more
    """

    time: int
    keys: tuple[SeriesKey, ...]
    values: Floats
    complete: bool

    @property
    def is_unknown(self) -> bool:
        """Whether the source did not answer at all."""
        return not self.complete and not self.keys


@dataclass(slots=True)
class _Part:
    keys: tuple[SeriesKey, ...]
    times: Ints
    values: Floats
    used: Bools


@dataclass(slots=True)
class _OpenTick:
    parts: list[_Part] = field(default_factory=list)
    complete: bool = False


class TickAssembler:
    """Collects the samples of one source and closes a tick `grace_s` seconds after its time.

    interval_s : seconds between ticks
    grace_s    : seconds for which a tick accepts late samples. Repetition and order within it do not matter:
                 the
                 latest sample of a series counts, of two with the same time the larger value. Samples of a
                 closed tick are dropped and counted in `late_samples`
    by_reading : for a source that is read once an interval and shows the newest sample of each series, up to
                 an
                 interval old. A sample counts only for the first reading that shows it. Otherwise it counts
                 for
                 the tick of its own time

    >>> a = TickAssembler(interval_s=5)
    >>> key = SeriesKey("host", "load1")
    >>> at = 5_200_000_000
    >>> a.add(Reading(at, (key,), np.array([at]), np.array([0.5])))
    >>> [(tick.time, tick.values.tolist()) for tick in a.close(at)]
    [(5000000000, [0.5])]
    """

    def __init__(self, interval_s: float, grace_s: float = 0.0, *, by_reading: bool = False) -> None:
        self.interval_ns = round(interval_s * 1e9)
        self.grace_ns = round(grace_s * 1e9)
        self.by_reading = by_reading
        self.late_samples = 0
        self.closed_until = -(2**62)
        self._open: dict[int, _OpenTick] = {}
        self._newest: tuple[tuple[SeriesKey, ...], Ints] = ((), np.empty(0, np.int64))
        self._checked: tuple[SeriesKey, ...] | None = None

    def tick_time(self, time_ns: int) -> int:
        """Return the time of the tick, int64 ns, for which a sample of that time counts."""
        return (time_ns + self.interval_ns // EARLY_DIVISOR) // self.interval_ns * self.interval_ns

    def add(self, reading: Reading) -> None:
        """Add a reading. Samples of a later tick wait for it."""
        reading_tick = self.tick_time(reading.time)
        sampled = ~np.isnan(reading.values)
        if self.by_reading:
            ticks = np.full(len(reading.times), reading_tick)
        else:
            ticks = (reading.times + self.interval_ns // EARLY_DIVISOR) // self.interval_ns * self.interval_ns
        in_time = sampled & (ticks > self.closed_until)
        self.late_samples += int(
            np.count_nonzero(sampled & ~in_time & (reading.times != self._newest_of(reading.keys)))
        )
        other_ticks = {int(tick) for tick in np.unique(ticks[in_time])} - {reading_tick}
        for tick in sorted(other_ticks | {reading_tick} if reading_tick > self.closed_until else other_ticks):
            part = _Part(reading.keys, reading.times, reading.values, in_time & (ticks == tick))
            self._open_tick(tick).parts.append(part)
        if reading_tick > self.closed_until:
            self._open_tick(reading_tick).complete |= reading.complete

    def fail(self, time_ns: int) -> None:
        """Record that the source did not answer: the tick is unknown unless another reading fills it."""
        if self.tick_time(time_ns) > self.closed_until:
            self._open_tick(self.tick_time(time_ns))

    def rewind(self, closed_until: int) -> None:
        """Continue after an earlier tick, because the clock was set back; older samples count again."""
        self.closed_until = closed_until
        self._newest = ((), np.empty(0, np.int64))
        self._open.clear()

    def close(self, watermark_ns: int) -> list[ClosedTick]:
        """Return the ticks whose grace window ended before `watermark_ns`, oldest first."""
        due = sorted(tick for tick in self._open if tick + self.grace_ns <= watermark_ns)
        return [self._close(tick) for tick in due]

    def flush(self) -> list[ClosedTick]:
        """Close and return all open ticks, at the end of a source."""
        return [self._close(tick) for tick in sorted(self._open)]

    def _open_tick(self, tick: int) -> _OpenTick:
        return self._open.setdefault(tick, _OpenTick())

    def _close(self, tick: int) -> ClosedTick:
        open_tick = self._open.pop(tick)
        self.closed_until = max(self.closed_until, tick)
        if not open_tick.parts:
            return ClosedTick(tick, (), np.empty(0), open_tick.complete)
        if len(open_tick.parts) == 1 and self._has_distinct_keys(open_tick.parts[0].keys):
            part = open_tick.parts[0]
            keys, times, values = part.keys, part.times, np.where(part.used, part.values, np.nan)
        else:
            keys, times, values = _merge(open_tick.parts)
        before = self._newest_of(keys)
        if self.by_reading:
            self.late_samples += int(np.count_nonzero(~np.isnan(values) & (times < before)))
            values = np.where(times > before, values, np.nan)
        self._newest = (keys, np.where(np.isnan(values), before, times))
        return ClosedTick(tick, keys, values, open_tick.complete)

    def _newest_of(self, keys: tuple[SeriesKey, ...]) -> Ints:
        """Return the time of the newest counted sample of each key."""
        known, times = self._newest
        if known is keys:
            return times
        by_key = dict(zip(known, times.tolist(), strict=True))
        return np.array([by_key.get(key, _NO_SAMPLE) for key in keys], np.int64)

    def _has_distinct_keys(self, keys: tuple[SeriesKey, ...]) -> bool:
        if keys is not self._checked and len(set(keys)) == len(keys):
            self._checked = keys
        return keys is self._checked


def _merge(parts: list[_Part]) -> tuple[tuple[SeriesKey, ...], Ints, Floats]:
    keys = _union(part.keys for part in parts)
    slot = {key: i for i, key in enumerate(keys)}
    best_time = np.full(len(keys), _NO_SAMPLE)
    best = np.full(len(keys), np.nan)
    for part in parts:
        for i in np.flatnonzero(part.used).tolist():
            at, time, value = slot[part.keys[i]], part.times[i], part.values[i]
            if time > best_time[at] or (time == best_time[at] and value > best[at]):
                best_time[at], best[at] = time, value
    return keys, best_time, best


def _union(groups: Iterable[tuple[SeriesKey, ...]]) -> tuple[SeriesKey, ...]:
    """Return all keys once, in an order independent of the order of the groups."""
    return tuple(sorted({key for group in groups for key in group}, key=lambda k: (k.metric, k.labels)))
