"""Who tells people of incidents."""

from collections.abc import Sequence
from typing import Protocol

from trimtab.engine.types import Notice


class Notifier(Protocol):
    """One receiver of notices. Knows nothing from one call to the next, so that a restart changes nothing."""

    name: str
    """As in `notify:` of the settings."""
    repeat_s: float | None
    """While an incident goes on, its newest notice is sent again so often; None = once is enough."""

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Hand over one notice; it was taken when this returns.

        told : what this receiver took of the same trouble before, oldest first; it gives the identity

        Raises NotDeliveredError, within the total deadline of its settings.
        """
        ...

    async def probe(self) -> str:
        """What can be told without a notice: whether it is there, and lets us in; in a few words.

        Raises NotDeliveredError, as `notify` would.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
