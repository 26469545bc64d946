"""The open window of scores: the newest ticks of one source, in memory until they become a file."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trimtab.engine.store.time_series.score_files import NS_PER_SECOND, SortedRows
from trimtab.engine.types import Floats, Ints, SeriesKey

WINDOW_NS = 600 * NS_PER_SECOND
MIN_ROWS = 2_000
"""A window of slow or few series waits for so many rows, lest there be thousands of tiny files."""
MAX_BYTES = 32 << 20
MAX_TICKS = 10_000


class SlotTable:
    """Series keys by slot, and the way back."""

    def __init__(self, keys: tuple[SeriesKey, ...]) -> None:
        self.keys = keys

    @cached_property
    def slot_by_id(self) -> dict[str, int]:
        """Series id -> slot; built when first asked, as only reading needs it."""
        return {key.id: slot for slot, key in enumerate(self.keys)}


class ScoreWindow:
    """Ticks by time; each holds the rows with a sample only, and is never changed once it is in."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows = 0
        self._ticks: dict[int, tuple[SlotTable, npt.NDArray[np.int32], Floats]] = {}

    def __len__(self) -> int:
        return len(self._ticks)

    def __contains__(self, time: int) -> bool:
        return time in self._ticks

    @property
    def size_bytes(self) -> int:
        """Memory of the rows: slot and five columns."""
        return self.rows * 44

    def ends_before(self, time: int) -> bool:
        """Whether a tick at `time` begins the next window."""
        if not self._ticks:
            return False
        if self.size_bytes >= MAX_BYTES or len(self) >= MAX_TICKS:
            return True
        first = next(iter(self._ticks))
        return first // WINDOW_NS != time // WINDOW_NS and self.rows >= MIN_ROWS

    def add(self, time: int, table: SlotTable, slots: Ints, columns: Floats) -> None:
        """Keep a tick. columns : (5, len(slots)), owned by the window from now on."""
        self._ticks[time] = (table, slots.astype(np.int32), columns)
        self.rows += len(slots)

    def series_rows(self, series_id: str, likely_slot: int | None) -> tuple[Ints, Floats]:
        """(times, (5, n) columns) of one series; guess : the slot where it is likely to be."""
        times, found = [], []
        slot_in: dict[int, int] = {}
        for time, (table, slots, columns) in self._ticks.items():
            if id(table) not in slot_in:
                slot_in[id(table)] = _find_slot(table, series_id, likely_slot)
            slot = slot_in[id(table)]
            at = int(np.searchsorted(slots, slot))
            if at < len(slots) and slots[at] == slot:
                times.append(time)
                found.append(columns[:, at])
        if not found:
            return np.empty(0, np.int64), np.empty((5, 0))
        return np.array(times, np.int64), np.stack(found, axis=1)

    def tick_times(self) -> Ints:
        """Of its ticks, in order of arrival."""
        return np.fromiter(self._ticks, np.int64, len(self._ticks))

    def sorted_rows(self) -> SortedRows:
        """All rows by series, then time."""
        by_table = {id(table): table for table, _, _ in self._ticks.values()}
        used = {name: self._used_slots(table) for name, table in by_table.items()}
        ids = sorted({key.id for name, slots in used.items() for key in _keys_of(by_table[name], slots)})
        order = {series_id: i for i, series_id in enumerate(ids)}
        ordinals = {}
        for name, slots in used.items():
            ordinals[name] = np.zeros(len(by_table[name].keys), np.int32)
            ordinals[name][slots] = [order[key.id] for key in _keys_of(by_table[name], slots)]
        ordinal = np.concatenate([ordinals[id(table)][slots] for table, slots, _ in self._ticks.values()])
        times = np.repeat(self.tick_times(), [len(slots) for _, slots, _ in self._ticks.values()])
        columns = np.concatenate([columns for _, _, columns in self._ticks.values()], axis=1)
        by_series = np.lexsort((times, ordinal))
        return SortedRows(ids, ordinal[by_series], times[by_series], columns[:, by_series])

    def _used_slots(self, table: SlotTable) -> Ints:
        used = np.zeros(len(table.keys), np.bool_)
        for its_table, slots, _ in self._ticks.values():
            if its_table is table:
                used[slots] = True
        return np.flatnonzero(used)


def _keys_of(table: SlotTable, slots: Ints) -> Sequence[SeriesKey]:
    return [table.keys[slot] for slot in slots]


def _find_slot(table: SlotTable, series_id: str, guess: int | None) -> int:
    """The slot of a series, or one past the last slot."""
    if guess is not None and guess < len(table.keys) and table.keys[guess].id == series_id:
        return guess
    return next((slot for slot, key in enumerate(table.keys) if key.id == series_id), len(table.keys))
