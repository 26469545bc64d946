"""Tracks which series of a source are absent, and which new series replace absent ones.

An absence anomaly is reported for a series that was always present and is gone. It is not reported for a
finished job, a short-lived process, a replaced pod, or series of a source that was unavailable.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from trimtab.engine.detection.series_table import SeriesTable
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.types import Ints, SeriesInfo, SeriesKey
from trimtab.models.contracts import Bools

ABSENT_AFTER_SCRAPES = 2
"""A series is absent after so many consecutive complete scrapes without it. Together with the failed scrape
before them that is at most 3 intervals.
"""
TARGET_ABSENT_AFTER_SCRAPES = 4
"""The same limit when no series of the target remains: the target was probably removed on purpose, and its
replacement needs time to be discovered.
"""
SETTLE_SCRAPES = 10
"""Complete scrapes to wait after a source was unavailable: its series return one after the other."""
GAP_INTERVALS = 3
"""A pause between ticks longer than this many intervals counts as an unavailable source."""
RECENT_SCRAPES = 20
"""A new series can replace an absent one only within this many scrapes of its first sample."""
LONG_LIVED_TICKS = 720
"""Minimum age, in ticks, to report an absence of a metric whose series often leave."""
FREQUENT_DEPARTURES = 5
"""Departures of series of one metric from which leaving counts as usual."""
FREQUENT_RETURNS = 3
"""Returns of one series from which coming and going counts as usual."""
MIN_PRESENT_RATIO = 0.9
"""Ratio of scrapes (0..1) that must contain a series; below it the series is sparse and never absent."""
MIN_KNOWN_TICKS = 40
"""Ticks with samples before an absence of the series is reported."""
DAY_NS = 86_400_000_000_000
KEEP_NS, KEEP_ABSENT_NS = DAY_NS, 7 * DAY_NS
"""How long learned state is kept: one day for a series that left unreported, seven for a reported absence."""

IsReplacement = Callable[[SeriesKey, SeriesKey], bool]
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class PresenceChanges:
    """Changes in which series are present, found in one tick; arrays hold slots.

    vanished     : series whose absence anomaly starts with this tick
    returned     : series that were absent and have samples again
    replacements : (absent, new) pairs: the new series inherits the learned state, the old slot is freed
    freed        : series absent for so long that their learned state is dropped
    """

    vanished: Ints
    returned: Ints
    replacements: tuple[tuple[int, int], ...]
    freed: Ints


class AbsenceTracker:
    """Finds absent, returned and replaced series of one source.

    table          : the source's series
    interval_s     : seconds between ticks
    is_replacement : (old, new) -> whether the new series replaces the old one, as the source knows it
    max_slots      : slots above which the slots of absent series are freed at once
    info           : metadata of a series
    """

    def __init__(
        self,
        table: SeriesTable,
        interval_s: float,
        is_replacement: IsReplacement,
        max_slots: int = 50_000,
        info: Callable[[SeriesKey], SeriesInfo] = SeriesInfo,
    ) -> None:
        self.table = table
        self.info = info
        self.interval_ns = round(interval_s * 1e9)
        self.is_replacement = is_replacement
        self.max_slots = max_slots
        self.scrapes_until_settled = 0
        """Complete scrapes left until a source that was unavailable is trusted again."""
        self.last_time: int | None = None
        self.departures: Counter[str] = Counter()
        """Metric -> number of its series that left without an absence anomaly."""

    def detect_gap(self, tick: ClosedTick) -> bool:
        """Return whether the source was unavailable before or during this tick; update settling."""
        last, self.last_time = self.last_time, tick.time
        away = last is not None and tick.time - last > GAP_INTERVALS * self.interval_ns
        if tick.is_unknown or away:
            self.scrapes_until_settled = SETTLE_SCRAPES
        elif tick.complete:
            self.scrapes_until_settled = max(self.scrapes_until_settled - 1, 0)
        return tick.is_unknown or away

    def update(
        self, tick: ClosedTick, new_slots: Ints, returned: Ints, learning: Bools, absent: Bools
    ) -> PresenceChanges:
        """Return the presence changes of a tick that the table has recorded.

        new_slots : slots of new series
        returned  : slots of absent series that have samples again
        learning  : (size,) bool, series that have no score yet
        absent    : (size,) bool, series with an open absence anomaly
        """
        absent_slots = self._find_absent() if tick.complete else _NONE
        replacements = self._find_replacements(absent_slots, new_slots)
        self._inherit_presence(replacements)
        unreplaced = np.array(
            [slot for slot in absent_slots.tolist() if slot not in dict(replacements)], np.int64
        )
        is_transient = [self.info(self.table.keys[slot]).is_transient for slot in unreplaced.tolist()]
        vanished = unreplaced[
            self._is_expected(unreplaced) & ~learning[unreplaced] & ~np.array(is_transient, np.bool_)
        ]
        for slot in np.setdiff1d(unreplaced, vanished).tolist():
            self.departures[self.table.keys[slot].metric] += 1
        freed = self._find_expired(tick.time, absent, vanished)
        return PresenceChanges(
            vanished, returned, replacements, freed[~np.isin(freed, [g for g, _ in replacements])]
        )

    def _find_absent(self) -> Ints:
        """Mark series that are absent from now on and return those that had live samples."""
        column = self.table.column
        absent = self.table.used & ~column("judged")
        absent &= column("missing") >= (
            SETTLE_SCRAPES if self.scrapes_until_settled else ABSENT_AFTER_SCRAPES
        )
        absent[
            self._without_live_target(
                np.flatnonzero(absent & (column("missing") < TARGET_ABSENT_AFTER_SCRAPES))
            )
        ] = False
        column("judged")[absent] = True
        return np.flatnonzero(absent & column("live"))

    def _without_live_target(self, slots: Ints) -> list[int]:
        """Return those slots whose target has no series in the current scrape."""
        if not len(slots):
            return []
        keys = self.table.keys
        present = np.flatnonzero(self.table.used & (self.table.column("missing") == 0)).tolist()
        targets = {_target_labels(keys[slot]) for slot in present}
        return [slot for slot in slots.tolist() if _target_labels(keys[slot]) not in targets]

    def _is_expected(self, slots: Ints) -> Bools:
        """Return whether each slot's series was present long and regularly enough to be reported absent."""
        column, table = self.table.column, self.table
        seen, given, returns = column("seen")[slots], column("given")[slots], column("returns")[slots]
        answers = table.complete_scrapes - np.maximum(column("arrived")[slots], 0) - column("missing")[slots]
        leaves_often = np.array(
            [self.departures[table.keys[s].metric] >= FREQUENT_DEPARTURES for s in slots], np.bool_
        )
        long_enough = seen >= np.where(leaves_often, LONG_LIVED_TICKS, MIN_KNOWN_TICKS)
        is_regular = given >= MIN_PRESENT_RATIO * answers
        is_stable = (returns < FREQUENT_RETURNS) | (given >= LONG_LIVED_TICKS * (returns + 1))
        expected: Bools = long_enough & is_regular & is_stable
        return expected

    def _find_replacements(self, absent: Ints, new_slots: Ints) -> tuple[tuple[int, int], ...]:
        """Return (absent, new) pairs: recent series for those absent now, absent series for those new now."""
        column, table = self.table.column, self.table
        pairs: dict[int, int] = {}
        if len(absent):
            recent = (column("arrived") >= 0) & (table.complete_scrapes - column("arrived") <= RECENT_SCRAPES)
            self._match_replacements(
                absent.tolist(), np.flatnonzero(recent & table.used & (column("missing") == 0)), pairs
            )
        live_new = new_slots[column("arrived")[new_slots] >= 0]
        if len(live_new):
            earlier_absent = np.flatnonzero(table.used & column("judged") & column("live"))
            latest_first = earlier_absent[np.argsort(-column("last")[earlier_absent], kind="stable")]
            self._match_replacements(latest_first.tolist(), live_new, pairs)
        return tuple(pairs.items())

    def _match_replacements(
        self, absent_slots: Iterable[int], candidates: Ints, pairs: dict[int, int]
    ) -> None:
        """Add a pair for each absent slot that one of the new slots replaces."""
        keys, first = self.table.keys, self.table.column("first")
        by_metric: dict[str, list[int]] = defaultdict(list)
        for slot in candidates.tolist():
            by_metric[keys[slot].metric].append(slot)
        used = set(pairs.values())
        for absent in absent_slots:
            if absent in pairs:
                continue
            for candidate in by_metric.get(keys[absent].metric, ()):
                if (
                    candidate not in used
                    and first[candidate] > first[absent]
                    and self.is_replacement(keys[absent], keys[candidate])
                ):
                    pairs[absent] = candidate
                    used.add(candidate)
                    break

    def _inherit_presence(self, replacements: Iterable[tuple[int, int]]) -> None:
        """Copy presence counters from each replaced series to its replacement."""
        for old, new in replacements:
            for name in ("seen", "given"):
                self.table.column(name)[new] += self.table.column(name)[old]
            self.table.column("returns")[new] = self.table.column("returns")[old]
            self.table.column("arrived")[new] = self.table.column("arrived")[old]
            self.table.column("first")[new] = self.table.column("first")[old]

    def _find_expired(self, now: int, reported: Bools, vanished: Ints) -> Ints:
        """Return slots absent for too long and, above `max_slots`, those absent longest."""
        column, table = self.table.column, self.table
        absent = table.used & column("judged")
        absent[vanished] = False
        absent_ns = now - np.maximum(column("last"), column("first"))
        expired = absent & (absent_ns > np.where(reported, KEEP_ABSENT_NS, KEEP_NS))
        excess = len(table.slots) - int(expired.sum()) - self.max_slots
        if excess > 0:
            remaining = np.flatnonzero(absent & ~expired)
            expired[remaining[np.argsort(-absent_ns[remaining], kind="stable")][:excess]] = True
        return np.flatnonzero(expired)


def _target_labels(key: SeriesKey) -> tuple[tuple[str, str], ...]:
    """Return the labels that name the scrape target; empty where series do not come from targets."""
    return tuple(pair for pair in key.labels if pair[0] in {"job", "instance"})
