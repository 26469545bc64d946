"""Maps series ids to slots, the positions of series in a bank's arrays.

Slots are valid within one process only. Stored data is keyed by series id.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from trimtab.models.errors import ModelError

INITIAL_CAPACITY = 64


class Slots:
    """Assigns slots in order of arrival; a new series takes the lowest free slot first.

    capacity : initial number of slots, at least 1; doubles when all are taken, and banks then `grow` to it

    Order of arrival keeps the series of one source contiguous in memory, in the order in which they are read.
    A reused slot still holds the state of its former series until the caller resets it.

    >>> slots = Slots()
    >>> slots.add("a"), slots.add("b")
    (0, 1)
    >>> slots.remove("a")
    0
    >>> slots.add("c"), slots.series_ids()
    (0, ['c', 'b'])
    """

    def __init__(self, capacity: int = INITIAL_CAPACITY) -> None:
        if capacity < 1:
            raise ModelError(f"slots: capacity is {capacity}; must be at least 1")
        self.capacity = capacity
        """Number of slots, used or free."""
        self.version = 0
        """Incremented whenever a series is added or removed."""
        self._slot: dict[str, int] = {}
        self._id: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return the number of series with a slot."""
        return len(self._slot)

    def __contains__(self, series_id: object) -> bool:
        """Return whether this series has a slot."""
        return series_id in self._slot

    def __iter__(self) -> Iterator[str]:
        """Iterate over series ids in slot order."""
        return iter(self.series_ids())

    def slot(self, series_id: str) -> int:
        """Return the slot of a series. Raises ModelError if it has none."""
        try:
            return self._slot[series_id]
        except KeyError:
            raise ModelError(f"series {series_id!r} has no slot; add it first") from None

    def series_id(self, slot: int) -> str | None:
        """Return the series id in a slot, None if the slot is free."""
        return self._id[slot] if 0 <= slot < len(self._id) else None

    def add(self, series_id: str) -> int:
        """Return the slot of a series and assign one if it has none; may double `capacity`."""
        known = self._slot.get(series_id)
        if known is not None:
            return known
        if self._free:
            slot = heappop(self._free)
            self._id[slot] = series_id
        else:
            slot = len(self._id)
            self._id.append(series_id)
            while slot >= self.capacity:
                self.capacity *= 2
        self._slot[series_id] = slot
        self.version += 1
        return slot

    def extend(self, series_ids: Iterable[str]) -> list[int]:
        """Add several series; return their slots."""
        return [self.add(series_id) for series_id in series_ids]

    def remove(self, series_id: str) -> int:
        """Free the slot of a series and return it. Raises ModelError if it has none."""
        slot = self.slot(series_id)
        del self._slot[series_id]
        self._id[slot] = None
        heappush(self._free, slot)
        self.version += 1
        return slot

    def series_ids(self) -> list[str]:
        """Return series ids in slot order."""
        return [series_id for series_id in self._id if series_id is not None]
