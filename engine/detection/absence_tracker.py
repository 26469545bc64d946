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

GONE_ANSWERS = 2
"""Whole answers in a row without a series after which it is gone. With the scrape that failed before
them that is at most 3 intervals."""
MOVED_ANSWERS = 4
"""The same where nothing at all is left of its target: what is not looked for any more was removed on
purpose, and what replaces it is given the time to be found."""
SETTLE_ANSWERS = 10
"""So many after a source was away: its series come back one after the other."""
GAP_INTERVALS = 3
"""A longer silence is a gap, as if the source had been away."""
RECENT_ANSWERS = 20
"""A newcomer of so many answers may have taken the place of one that goes now."""
LONG_TICKS = 720
"""Where coming and going is usual, only a series that was there for so long is missed."""
USUAL_DEPARTURES = 5
USUAL_RETURNS = 3
PRESENT_SHARE = 0.9
"""A series that was given less often is sparse by habit."""
KNOWN_TICKS = 40
DAY_NS = 86_400_000_000_000
KEEP_NS, KEEP_MISSED_NS = DAY_NS, 7 * DAY_NS
"""How long what was learnt of a series that is gone is kept: quietly gone, and missed."""

Replaced = Callable[[SeriesKey, SeriesKey], bool]
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a tick says of comings and goings, all by slot.

    vanished : absence anomalies from this tick on
    returned : were judged absent, and are back
    heirs    : (gone, heir): the heir takes over what was learnt, the slot of the gone one is freed
    freed    : gone for so long that they are forgotten
    """

    vanished: Ints
    returned: Ints
    heirs: tuple[tuple[int, int], ...]
    freed: Ints


class Absences:
    """Judges, tick by tick, what the table of one source's series noted."""

    def __init__(
        self,
        table: SeriesTable,
        interval_s: float,
        replaced: Replaced,
        most: int = 50_000,
        info: Callable[[SeriesKey], SeriesInfo] = SeriesInfo,
    ) -> None:
        self.table = table
        self.info = info
        self.interval_ns = round(interval_s * 1e9)
        self.replaced = replaced
        self.most = most
        """Slots beyond which those of gone series are freed at once."""
        self.settling = 0
        """Whole answers to come until a source that was away is trusted again."""
        self.last_time: int | None = None
        self.departures: Counter[str] = Counter()
        """Metric -> series of it that left without being missed."""

    def gap(self, tick: ClosedTick) -> bool:
        """Whether the source was away before, or in, this tick; then it is given time to settle."""
        last, self.last_time = self.last_time, tick.time
        away = last is not None and tick.time - last > GAP_INTERVALS * self.interval_ns
        if tick.unknown or away:
            self.settling = SETTLE_ANSWERS
        elif tick.complete:
            self.settling = max(self.settling - 1, 0)
        return tick.unknown or away

    def judge(self, tick: ClosedTick, came: Ints, back: Ints, learning: Bools, missed: Bools) -> Verdict:
        """What follows from a tick that the table has noted.

        came, back : slots that are new, or were judged absent and were given again
        learning   : (size,) series that are not scored yet
        missed     : (size,) series with an open absence anomaly
        """
        gone = self._gone() if tick.complete else _NONE
        heirs = self._heirs(gone, came)
        self._hand_over(heirs)
        left = np.array([slot for slot in gone.tolist() if slot not in dict(heirs)], np.int64)
        comes_and_goes = [self.info(self.table.keys[slot]).is_transient for slot in left.tolist()]
        vanished = left[self._established(left) & ~learning[left] & ~np.array(comes_and_goes, np.bool_)]
        for slot in np.setdiff1d(left, vanished).tolist():
            self.departures[self.table.keys[slot].metric] += 1
        freed = self._forgotten(tick.time, missed, vanished)
        return Verdict(vanished, back, heirs, freed[~np.isin(freed, [g for g, _ in heirs])])

    def _gone(self) -> Ints:
        """Series that are judged absent now."""
        habit = self.table.habit
        absent = self.table.used & ~habit("judged")
        absent &= habit("missing") >= (SETTLE_ANSWERS if self.settling else GONE_ANSWERS)
        absent[self._moving(np.flatnonzero(absent & (habit("missing") < MOVED_ANSWERS)))] = False
        habit("judged")[absent] = True
        return np.flatnonzero(absent & habit("live"))

    def _moving(self, slots: Ints) -> list[int]:
        """Those of them of whose target nothing is there any more."""
        if not len(slots):
            return []
        keys = self.table.keys
        here = np.flatnonzero(self.table.used & (self.table.habit("missing") == 0)).tolist()
        targets = {_target(keys[slot]) for slot in here}
        return [slot for slot in slots.tolist() if _target(keys[slot]) not in targets]

    def _established(self, slots: Ints) -> Bools:
        """Whether these were there for long and always, as far as is known."""
        habit, table = self.table.habit, self.table
        seen, given, returns = habit("seen")[slots], habit("given")[slots], habit("returns")[slots]
        answers = table.answers - np.maximum(habit("arrived")[slots], 0) - habit("missing")[slots]
        usual = np.array([self.departures[table.keys[s].metric] >= USUAL_DEPARTURES for s in slots], np.bool_)
        long_enough = seen >= np.where(usual, LONG_TICKS, KNOWN_TICKS)
        steady = given >= PRESENT_SHARE * answers
        settled = (returns < USUAL_RETURNS) | (given >= LONG_TICKS * (returns + 1))
        missed: Bools = long_enough & steady & settled
        return missed

    def _heirs(self, gone: Ints, came: Ints) -> tuple[tuple[int, int], ...]:
        """Pairs: newcomers of the last answers for what goes now, what went before for newcomers of now."""
        habit, table = self.table.habit, self.table
        pairs: dict[int, int] = {}
        if len(gone):
            recent = (habit("arrived") >= 0) & (table.answers - habit("arrived") <= RECENT_ANSWERS)
            self._match(gone.tolist(), np.flatnonzero(recent & table.used & (habit("missing") == 0)), pairs)
        fresh = came[habit("arrived")[came] >= 0]
        if len(fresh):
            before = np.flatnonzero(table.used & habit("judged") & habit("live"))
            latest_first = before[np.argsort(-habit("last")[before], kind="stable")]
            self._match(latest_first.tolist(), fresh, pairs)
        return tuple(pairs.items())

    def _match(self, gone: Iterable[int], newcomers: Ints, pairs: dict[int, int]) -> None:
        keys, first = self.table.keys, self.table.habit("first")
        by_metric: dict[str, list[int]] = defaultdict(list)
        for slot in newcomers.tolist():
            by_metric[keys[slot].metric].append(slot)
        taken = set(pairs.values())
        for old in gone:
            if old in pairs:
                continue
            for new in by_metric.get(keys[old].metric, ()):
                if new not in taken and first[new] > first[old] and self.replaced(keys[old], keys[new]):
                    pairs[old] = new
                    taken.add(new)
                    break

    def _hand_over(self, heirs: Iterable[tuple[int, int]]) -> None:
        """An heir has the habits of whom it replaced, too."""
        for old, new in heirs:
            for name in ("seen", "given"):
                self.table.habit(name)[new] += self.table.habit(name)[old]
            self.table.habit("returns")[new] = self.table.habit("returns")[old]
            self.table.habit("arrived")[new] = self.table.habit("arrived")[old]
            self.table.habit("first")[new] = self.table.habit("first")[old]

    def _forgotten(self, now: int, missed: Bools, vanished: Ints) -> Ints:
        """Series gone for long; when slots run out, those that are gone for longest."""
        habit, table = self.table.habit, self.table
        gone = table.used & habit("judged")
        gone[vanished] = False
        since = now - np.maximum(habit("last"), habit("first"))
        old = gone & (since > np.where(missed, KEEP_MISSED_NS, KEEP_NS))
        excess = len(table.slots) - int(old.sum()) - self.most
        if excess > 0:
            rest = np.flatnonzero(gone & ~old)
            old[rest[np.argsort(-since[rest], kind="stable")][:excess]] = True
        return np.flatnonzero(old)


def _target(key: SeriesKey) -> tuple[tuple[str, str], ...]:
    """What names the scraped target of a series, nothing where series do not come from targets."""
    return tuple(pair for pair in key.labels if pair[0] in {"job", "instance"})
