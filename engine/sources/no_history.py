"""Base class of sources that have no recorded history and no replaceable series."""

from collections.abc import AsyncIterator

from trimtab.engine.types import History, SeriesKey


class NoHistory:
    """Source without recorded history whose series never replace each other."""

    async def history(self, now_ns: int) -> AsyncIterator[History]:  # noqa: ARG002 - required by the port
        """Yield nothing: the source has no recorded history."""
        nothing: tuple[History, ...] = ()
        for chunk in nothing:
            yield chunk

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:  # noqa: ARG002 - required by the port
        """Return False: a series never replaces another one."""
        return False
