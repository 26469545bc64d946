"""Which series that a source no longer gives are missed, and which newcomer took whose place.

What a person on call wants to hear of: a series that was there for as long as anybody knew it and is gone.
Not: a job that ended, a process that comes and goes, a pod that another replaced, a source that was away.
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
"""Whole answers in a row without a series after which it is gone. With the scrape that failed before
them that is at most 3 intervals."""
TARGET_ABSENT_AFTER_SCRAPES = 4
"""The same where nothing at all is left of its target: what is not looked for any more was removed on
purpose, and what replaces it is given the time to be found."""
SETTLE_SCRAPES = 10
"""So many after a source was away: its series come back one after the other."""
GAP_INTERVALS = 3
"""A longer silence is a gap, as if the source had been away."""
RECENT_SCRAPES = 20
"""A newcomer of so many answers may have taken the place of one that goes now."""
LONG_LIVED_TICKS = 720
"""Where coming and going is usual, only a series that was there for so long is missed."""
FREQUENT_DEPARTURES = 5
FREQUENT_RETURNS = 3
MIN_PRESENT_RATIO = 0.9
"""A series that was given less often is sparse by habit."""
MIN_KNOWN_TICKS = 40
DAY_NS = 86_400_000_000_000
KEEP_NS, KEEP_ABSENT_NS = DAY_NS, 7 * DAY_NS
"""How long what was learnt of a series that is gone is kept: quietly gone, and missed."""

IsReplacement = Callable[[SeriesKey, SeriesKey], bool]
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class PresenceChanges:
    """What a tick says of comings and goings, all by slot.

    vanished : absence anomalies from this tick on
    returned : were judged absent, and are back
    heirs    : (gone, heir): the heir takes over what was learnt, the slot of the gone one is freed
    freed    : gone for so long that they are forgotten
    """

    vanished: Ints
    returned: Ints
    replacements: tuple[tuple[int, int], ...]
    freed: Ints


class AbsenceTracker:
    """Judges, tick by tick, what the table of one source's series noted."""

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
        """Slots beyond which those of gone series are freed at once."""
        self.scrapes_until_settled = 0
        """Whole answers to come until a source that was away is trusted again."""
        self.last_time: int | None = None
        self.departures: Counter[str] = Counter()
        """Metric -> series of it that left without being missed."""

    def detect_gap(self, tick: ClosedTick) -> bool:
        """Whether the source was away before, or in, this tick; then it is given time to settle."""
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
        """What follows from a tick that the table has noted.

        came, back : slots that are new, or were judged absent and were given again
        learning   : (size,) series that are not scored yet
        missed     : (size,) series with an open absence anomaly
        """
        gone = self._find_absent() if tick.complete else _NONE
        heirs = self._find_replacements(gone, new_slots)
        self._inherit_presence(heirs)
        left = np.array([slot for slot in gone.tolist() if slot not in dict(heirs)], np.int64)
        comes_and_goes = [self.info(self.table.keys[slot]).is_transient for slot in left.tolist()]
        vanished = left[self._is_expected(left) & ~learning[left] & ~np.array(comes_and_goes, np.bool_)]
        for slot in np.setdiff1d(left, vanished).tolist():
            self.departures[self.table.keys[slot].metric] += 1
        freed = self._find_expired(tick.time, absent, vanished)
        return PresenceChanges(vanished, returned, heirs, freed[~np.isin(freed, [g for g, _ in heirs])])

    def _find_absent(self) -> Ints:
        """Series that are judged absent now."""
        habit = self.table.column
        absent = self.table.used & ~habit("judged")
        absent &= habit("missing") >= (SETTLE_SCRAPES if self.scrapes_until_settled else ABSENT_AFTER_SCRAPES)
        absent[
            self._without_live_target(
                np.flatnonzero(absent & (habit("missing") < TARGET_ABSENT_AFTER_SCRAPES))
            )
        ] = False
        habit("judged")[absent] = True
        return np.flatnonzero(absent & habit("live"))

    def _without_live_target(self, slots: Ints) -> list[int]:
        """Those of them of whose target nothing is there any more."""
        if not len(slots):
            return []
        keys = self.table.keys
        here = np.flatnonzero(self.table.used & (self.table.column("missing") == 0)).tolist()
        targets = {_target_labels(keys[slot]) for slot in here}
        return [slot for slot in slots.tolist() if _target_labels(keys[slot]) not in targets]

    def _is_expected(self, slots: Ints) -> Bools:
        """Whether these were there for long and always, as far as is known."""
        habit, table = self.table.column, self.table
        seen, given, returns = habit("seen")[slots], habit("given")[slots], habit("returns")[slots]
        answers = table.complete_scrapes - np.maximum(habit("arrived")[slots], 0) - habit("missing")[slots]
        usual = np.array(
            [self.departures[table.keys[s].metric] >= FREQUENT_DEPARTURES for s in slots], np.bool_
        )
        long_enough = seen >= np.where(usual, LONG_LIVED_TICKS, MIN_KNOWN_TICKS)
        steady = given >= MIN_PRESENT_RATIO * answers
        settled = (returns < FREQUENT_RETURNS) | (given >= LONG_LIVED_TICKS * (returns + 1))
        missed: Bools = long_enough & steady & settled
        return missed

    def _find_replacements(self, gone: Ints, came: Ints) -> tuple[tuple[int, int], ...]:
        """Pairs: newcomers of the last answers for what goes now, what went before for newcomers of now."""
        habit, table = self.table.column, self.table
        pairs: dict[int, int] = {}
        if len(gone):
            recent = (habit("arrived") >= 0) & (table.complete_scrapes - habit("arrived") <= RECENT_SCRAPES)
            self._match_replacements(
                gone.tolist(), np.flatnonzero(recent & table.used & (habit("missing") == 0)), pairs
            )
        fresh = came[habit("arrived")[came] >= 0]
        if len(fresh):
            before = np.flatnonzero(table.used & habit("judged") & habit("live"))
            latest_first = before[np.argsort(-habit("last")[before], kind="stable")]
            self._match_replacements(latest_first.tolist(), fresh, pairs)
        return tuple(pairs.items())

    def _match_replacements(self, gone: Iterable[int], newcomers: Ints, pairs: dict[int, int]) -> None:
        keys, first = self.table.keys, self.table.column("first")
        by_metric: dict[str, list[int]] = defaultdict(list)
        for slot in newcomers.tolist():
            by_metric[keys[slot].metric].append(slot)
        taken = set(pairs.values())
        for old in gone:
            if old in pairs:
                continue
            for new in by_metric.get(keys[old].metric, ()):
                if new not in taken and first[new] > first[old] and self.is_replacement(keys[old], keys[new]):
                    pairs[old] = new
                    taken.add(new)
                    break

    def _inherit_presence(self, heirs: Iterable[tuple[int, int]]) -> None:
        """An heir has the habits of whom it replaced, too."""
        for old, new in heirs:
            for name in ("seen", "given"):
                self.table.column(name)[new] += self.table.column(name)[old]
            self.table.column("returns")[new] = self.table.column("returns")[old]
            self.table.column("arrived")[new] = self.table.column("arrived")[old]
            self.table.column("first")[new] = self.table.column("first")[old]

    def _find_expired(self, now: int, missed: Bools, vanished: Ints) -> Ints:
        """Series gone for long; when slots run out, those that are gone for longest."""
        habit, table = self.table.column, self.table
        gone = table.used & habit("judged")
        gone[vanished] = False
        since = now - np.maximum(habit("last"), habit("first"))
        old = gone & (since > np.where(missed, KEEP_ABSENT_NS, KEEP_NS))
        excess = len(table.slots) - int(old.sum()) - self.max_slots
        if excess > 0:
            rest = np.flatnonzero(gone & ~old)
            old[rest[np.argsort(-since[rest], kind="stable")][:excess]] = True
        return np.flatnonzero(old)


def _target_labels(key: SeriesKey) -> tuple[tuple[str, str], ...]:
    """What names the scraped target of a series, nothing where series do not come from targets."""
    return tuple(pair for pair in key.labels if pair[0] in {"job", "instance"})
