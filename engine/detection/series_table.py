"""Which series a source has: their slots, and the habits by which an absence is judged."""

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
"""By slot.

live    : it was given in a live tick at least once
first   : int64 ns of the tick in which it came; last: of the newest tick that gave it
seen    : ticks that gave it, those of the history counted; given: live ones only
missing : whole answers in a row without it
judged  : its absence was decided upon; returns: how often it came back after that
arrived : number of whole answers before it came, -1 = it was there from the first one on, or is history only
"""


class SeriesTable:
    """Slots of one source's series, in order of arrival, and what is known of their comings and goings."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.slots = Slots()
        self.presence = StateArrays(_COLUMNS, self.slots.capacity)
        self.complete_scrapes = 0
        """Whole answers so far."""
        self._keys: list[SeriesKey] = []
        self._keys_cache: tuple[int, tuple[SeriesKey, ...]] = (-1, ())
        self._used_cache: tuple[int, Bools] = (-1, np.empty(0, np.bool_))
        self._slots_cache: tuple[tuple[SeriesKey, ...], int, Ints] = ((), 0, np.empty(0, np.int64))

    @property
    def size(self) -> int:
        """Slots that are or were taken: the length of all arrays that leave here."""
        return len(self._keys)

    @property
    def keys(self) -> tuple[SeriesKey, ...]:
        """By slot, the very same tuple while nothing came or went; a freed slot keeps its last key."""
        if self._keys_cache[0] != self.slots.version:
            self._keys_cache = (self.slots.version, tuple(self._keys))
        return self._keys_cache[1]

    @property
    def used(self) -> Bools:
        """(size,) whether a slot is taken."""
        if self._used_cache[0] != self.slots.version:
            taken = [self.slots.series_id(slot) is not None for slot in range(self.size)]
            self._used_cache = (self.slots.version, np.array(taken, np.bool_))
        return self._used_cache[1]

    def column(self, name: str) -> npt.NDArray[Any]:
        """(size,) one of the arrays, to read and write."""
        return self.presence.values[name][: self.size]

    def assign_slots(self, keys: tuple[SeriesKey, ...]) -> tuple[Ints, Ints]:
        """The slot of each key, and those slots that are new; a new series gets one."""
        if keys is self._slots_cache[0] and self._slots_cache[1] == self.slots.version:
            return self._slots_cache[2], np.empty(0, np.int64)
        came = self._add_series(keys)
        here = np.array([self.slots.slot(key.id) for key in keys], np.int64)
        self._slots_cache = (keys, self.slots.version, here)
        return here, came

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
        """Take in which series a tick gave; the slots that were judged absent and are back.

        Nothing goes missing by an answer that is not whole.
        """
        habit = self.column
        habit("first")[new_slots] = tick.time
        habit("arrived")[new_slots] = self.complete_scrapes or -1
        back: Ints = present[habit("judged")[present]]
        habit("returns")[back] += habit("live")[back]
        if tick.complete:
            habit("missing")[:] += 1
            self.complete_scrapes += 1
        habit("missing")[present] = 0
        habit("judged")[present] = False
        habit("live")[present] = True
        habit("last")[present] = tick.time
        habit("seen")[present] += 1
        habit("given")[present] += 1
        return back

    def remove(self, slots: Iterable[int]) -> None:
        """Free slots."""
        for slot in slots:
            series_id = self.slots.series_id(slot)
            if series_id is not None:
                self.slots.remove(series_id)

    def state(self) -> State:
        """A copy of the habits."""
        return self.presence.state()

    def layout(self) -> list[list[object]]:
        """[metric, labels, taken] by slot: what `restore` needs beside the habits."""
        taken = self.used.tolist()
        return [[k.metric, dict(k.labels), taken[slot]] for slot, k in enumerate(self._keys)]

    def restore(self, layout: Iterable[Sequence[Any]], presence: State, complete_scrapes: int) -> None:
        """Go on with the same series in the same slots. Raises StateError where the habits do not fit."""
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
