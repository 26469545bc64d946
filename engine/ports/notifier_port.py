"""Port of the notification channels."""

from collections.abc import Sequence
from typing import Protocol

from trimtab.engine.types import Notice


class Notifier(Protocol):
    """One notification channel. It keeps no state between calls, so that a restart changes nothing."""

    name: str
    """Name under `notify:` in the settings."""
    repeat_s: float | None
    """Seconds between repetitions of the newest notice of an open incident; None = no repetition."""

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Deliver one notice; return when the receiver has accepted it.

        earlier : notices of the same incident that the receiver accepted before, oldest first

        Raises NotDeliveredError within the total deadline of the settings.
        """
        ...

    async def probe(self) -> str:
        """Check the receiver and the credentials without sending a notice; return a short description.

        Raises NotDeliveredError.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
