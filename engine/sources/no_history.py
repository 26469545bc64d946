"""What sources without a recorded past, whose series do not take each other's place, have in common."""

from collections.abc import AsyncIterator

from trimtab.engine.types import History, SeriesKey


class NoHistory:
    """Nothing before the first reading, and no series that goes on under another name."""

    async def history(self, now_ns: int) -> AsyncIterator[History]:  # noqa: ARG002 - the port gives it
        """Nothing is recorded; what a recording holds is replayed."""
        nothing: tuple[History, ...] = ()
        for chunk in nothing:
            yield chunk

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:  # noqa: ARG002 - the port gives them
        """None takes another one's place."""
        return False
