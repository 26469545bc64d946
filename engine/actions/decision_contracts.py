"""What the acting part asks of others: the guard, and which series would show harm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trimtab.engine.types import Action, Recommendation

ALLOW = "allow"


class Decision(Protocol):
    """The guard's word.

    verdict : allow, approve (a person has to agree first) or refuse
    guard   : the guardrail that decided
    reason  : a sentence with figures and what to do
    until   : int64 ns from when the same may pass; None = waiting alone does not help
    """

    @property
    def verdict(self) -> str:
        """Allow, approve or refuse."""
        ...

    @property
    def guard(self) -> str:
        """Its name."""
        ...

    @property
    def reason(self) -> str:
        """For people."""
        ...

    @property
    def until(self) -> int | None:
        """When it may pass."""
        ...


class Decide(Protocol):
    """The guard with all that it looks at.

    Asked of a recommendation before anything is written down, and of its action before that is sent.
    """

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> Decision:
        """May it be done now? `person` = somebody decided it. Raises ToolError where it cannot be known."""
        ...


@dataclass(frozen=True, slots=True)
class Guarded:
    """A series that must not get worse by a change; `more_is_better` None = it must stay where it was."""

    series_id: str
    name: str
    more_is_better: bool | None


GuardedBy = Callable[[Action], Sequence[Guarded]]
"""The series that are watched beside an action's own figure."""
Tell = Callable[[Action, str], None]
"""Tell people something that needs them."""
