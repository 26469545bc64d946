"""Series id -> slot: the place in a bank's arrays where a series' state stands.

Numbers only: a slot means nothing outside this process, and never leaves it; what is stored goes by id.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from trimtab.models.errors import ModelError

INITIAL_CAPACITY = 64


class Slots:
    """Slots in order of arrival; the lowest freed one is taken again before a new one.

    Order of arrival keeps the series of one source side by side in memory, in the order in which they are
    read. The capacity doubles when all slots are taken: banks then `grow` to it. A slot that is taken
    again still holds the state of the series that left: the caller `reset`s it.

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
            raise ModelError(f"slots: capacity is {capacity}; give 1 or more")
        self.capacity = capacity
        """Slots there are, taken or free."""
        self.version = 0
        """Grows whenever a series arrives or goes."""
        self._slot: dict[str, int] = {}
        self._id: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """Series that have a slot."""
        return len(self._slot)

    def __contains__(self, series_id: object) -> bool:
        """Whether this series has a slot."""
        return series_id in self._slot

    def __iter__(self) -> Iterator[str]:
        """Series ids in order of their slots."""
        return iter(self.series_ids())

    def slot(self, series_id: str) -> int:
        """The slot of a series. Raises ModelError for one that has none."""
        try:
            return self._slot[series_id]
        except KeyError:
            raise ModelError(f"series {series_id!r} has no slot; add it first") from None

    def series_id(self, slot: int) -> str | None:
        """The series in a slot, None where it is free."""
        return self._id[slot] if 0 <= slot < len(self._id) else None

    def add(self, series_id: str) -> int:
        """The slot of a series, a new one if it has none; may double `capacity`."""
        known = self._slot.get(series_id)
        if known is not None:
            return known
        if self._free:
            place = heappop(self._free)
            self._id[place] = series_id
        else:
            place = len(self._id)
            self._id.append(series_id)
            while place >= self.capacity:
                self.capacity *= 2
        self._slot[series_id] = place
        self.version += 1
        return place

    def extend(self, series_ids: Iterable[str]) -> list[int]:
        """`add`, for many."""
        return [self.add(series_id) for series_id in series_ids]

    def remove(self, series_id: str) -> int:
        """Free a series' slot; which one it was. Raises ModelError for a series that has none."""
        place = self.slot(series_id)
        del self._slot[series_id]
        self._id[place] = None
        heappush(self._free, place)
        self.version += 1
        return place

    def series_ids(self) -> list[str]:
        """Series ids in order of their slots."""
        return [series_id for series_id in self._id if series_id is not None]
