"""Contracts of the action package: the guard, guardrail metrics and operator notices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.types import Action, Recommendation, RecommendationState

ALLOW = "allow"
OPEN_STATES = frozenset(
    {RecommendationState.PENDING, RecommendationState.APPROVED, RecommendationState.SCHEDULED}
)
"""States of a recommendation that an operator can still decide."""


class Guard(Protocol):
    """Decides whether a proposal may run now.

    Called for a recommendation before its action is journaled, and for the action before it is sent.
    """

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> GuardDecision:
        """Return the decision for a proposal. Raises ToolError if the target cannot be read.

        person : whether an operator decided on it
        """
        ...


@dataclass(frozen=True, slots=True)
class GuardedMetric:
    """A series that must not get worse because of an action.

    more_is_better : None = a deviation in either direction is harm
    """

    series_id: str
    name: str
    more_is_better: bool | None


SelectGuardrailMetrics = Callable[[Action], Sequence[GuardedMetric]]
"""Returns the guardrail metrics to verify in addition to an action's own metric."""
NotifyOperators = Callable[[Action, str], None]
"""Notifies operators that an action needs their attention: (action, text)."""
