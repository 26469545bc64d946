"""The series of one source: their slots, and the counters from which absences are derived."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.types import Ints, SeriesKey
from trimtab.models.bank import StateArrays, StateField
from trimtab.models.contracts import Bools, State
from trimtab.models.slots import Slots

_FREE_PREFIX = "\0free "
_COLUMNS = {
    "live": StateField(np.bool_),
    "first": StateField(np.int64),
    "last": StateField(np.int64),
    "seen": StateField(np.int64),
    "given": StateField(np.int64),
    "missing": StateField(np.int64),
    "judged": StateField(np.bool_),
    "returns": StateField(np.int64),
    "arrived": StateField(np.int64, -1),
}
"""Presence counters by slot; the names are part of the stored state.

live    : the series had a sample in a live tick
first   : int64 ns of the first tick with a sample; last : of the newest one
seen    : ticks with a sample, history included; given : live ticks only
missing : consecutive complete scrapes without the series
judged  : the series counts as absent; returns : how often it returned after that
arrived : complete scrapes before its first one; -1 = present since the first scrape, or only in history
"""


class SeriesTable:
    """Slots of one source's series, in order of first appearance, with presence counters."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.slots = Slots()
        self.presence = StateArrays(_COLUMNS, self.slots.capacity)
        self.complete_scrapes = 0
        """Complete scrapes so far."""
        self._keys: list[SeriesKey] = []
        self._keys_cache: tuple[int, tuple[SeriesKey, ...]] = (-1, ())
        self._used_cache: tuple[int, Bools] = (-1, np.empty(0, np.bool_))
        self._slots_cache: tuple[tuple[SeriesKey, ...], int, Ints] = ((), 0, np.empty(0, np.int64))

    @property
    def size(self) -> int:
        """Number of slots in use or used before: the length of all arrays returned here."""
        return len(self._keys)

    @property
    def keys(self) -> tuple[SeriesKey, ...]:
        """Keys by slot; the identical tuple while no series comes or goes. A freed slot keeps its key."""
        if self._keys_cache[0] != self.slots.version:
            self._keys_cache = (self.slots.version, tuple(self._keys))
        return self._keys_cache[1]

    @property
    def used(self) -> Bools:
        """(size,) bool, whether a slot is in use."""
        if self._used_cache[0] != self.slots.version:
            taken = [self.slots.series_id(slot) is not None for slot in range(self.size)]
            self._used_cache = (self.slots.version, np.array(taken, np.bool_))
        return self._used_cache[1]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the (size,) view of one presence counter, readable and writable."""
        return self.presence.values[name][: self.size]

    def assign_slots(self, keys: tuple[SeriesKey, ...]) -> tuple[Ints, Ints]:
        """Return the slot of each key, and the slots of new series, which are added."""
        if keys is self._slots_cache[0] and self._slots_cache[1] == self.slots.version:
            return self._slots_cache[2], np.empty(0, np.int64)
        new_slots = self._add_series(keys)
        slots = np.array([self.slots.slot(key.id) for key in keys], np.int64)
        self._slots_cache = (keys, self.slots.version, slots)
        return slots, new_slots

    def _add_series(self, keys: Sequence[SeriesKey]) -> Ints:
        new = [key for key in keys if key.id not in self.slots]
        came = self.slots.extend(key.id for key in new)
        for slot, key in zip(came, new, strict=True):
            if slot == len(self._keys):
                self._keys.append(key)
            self._keys[slot] = key
        self.presence.grow(self.slots.capacity)
        slots = np.array(came, np.int64)
        self.presence.reset(slots)
        return slots

    def record_tick(self, tick: ClosedTick, present: Ints, new_slots: Ints) -> Ints:
        """Update the presence counters and return the slots of absent series that have samples again.

        present   : slots with a sample in this tick; new_slots : those of new series
        An incomplete scrape does not count as missing for any series.
        """
        habit = self.column
        habit("first")[new_slots] = tick.time
        habit("arrived")[new_slots] = self.complete_scrapes or -1
        returned: Ints = present[habit("judged")[present]]
        habit("returns")[returned] += habit("live")[returned]
        if tick.complete:
            habit("missing")[:] += 1
            self.complete_scrapes += 1
        habit("missing")[present] = 0
        habit("judged")[present] = False
        habit("live")[present] = True
        habit("last")[present] = tick.time
        habit("seen")[present] += 1
        habit("given")[present] += 1
        return returned

    def remove(self, slots: Iterable[int]) -> None:
        """Free slots."""
        for slot in slots:
            series_id = self.slots.series_id(slot)
            if series_id is not None:
                self.slots.remove(series_id)

    def state(self) -> State:
        """Return a copy of the presence counters."""
        return self.presence.state()

    def layout(self) -> list[list[object]]:
        """Return [metric, labels, in use] by slot, which `restore` needs together with the counters."""
        taken = self.used.tolist()
        return [[k.metric, dict(k.labels), taken[slot]] for slot, k in enumerate(self._keys)]

    def restore(self, layout: Iterable[Sequence[Any]], presence: State, complete_scrapes: int) -> None:
        """Restore series, slots and counters. Raises StateError when the counters do not fit."""
        rows = [(SeriesKey.of(self.source, metric, labels), taken) for metric, labels, taken in layout]
        self.slots = Slots()
        ids = [key.id if taken else f"{_FREE_PREFIX}{slot}" for slot, (key, taken) in enumerate(rows)]
        self.slots.extend(ids)
        for series_id in ids:
            if series_id.startswith(_FREE_PREFIX):
                self.slots.remove(series_id)
        self._keys = [key for key, _ in rows]
        self._keys_cache, self._used_cache, self._slots_cache = (
            (-1, ()),
            (-1, np.empty(0, np.bool_)),
            ((), -1, np.empty(0, np.int64)),
        )
        self.presence.restore(presence)
        self.presence.grow(self.slots.capacity)
        self.complete_scrapes = complete_scrapes
