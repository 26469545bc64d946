"""From what may be done to an action on its way: written down, asked about again, sent."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from trimtab.engine.actions.decision_contracts import ALLOW, Decide, Decision
from trimtab.engine.actions.executor import Executor
from trimtab.engine.actions.journal import ENGINE, Journal
from trimtab.engine.errors import ConflictError
from trimtab.engine.ports import Toolbox
from trimtab.engine.types import Action, ActionState, Mode, Recommendation, RecommendationState, Value

OPEN = frozenset({RecommendationState.PENDING, RecommendationState.APPROVED, RecommendationState.SCHEDULED})
"""What can still be decided."""


class Starter:
    """Starts actions, for people and by itself.

    new_id     : ULIDs
    time_scale : of the guardrails' durations, for tools that are trials only
    """

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        toolbox: Toolbox,
        decide: Decide,
        new_id: Callable[[], str],
        time_scale: float = 1.0,
    ) -> None:
        self.journal = journal
        self.executor = executor
        self.toolbox = toolbox
        self.decide = decide
        self.new_id = new_id
        self.time_scale = time_scale
        self.held: set[str] = set()
        """Ids of actions that somebody waits for: nobody else goes on with them."""

    @contextmanager
    def hold(self, action: Action) -> Iterator[None]:
        """Keep it for who waits for it, from before it is written down."""
        self.held.add(action.id)
        try:
            yield
        finally:
            self.held.discard(action.id)

    def busy(self, action_id: str) -> bool:
        """Whether somebody goes on with it right now."""
        return action_id in self.held or action_id in self.executor.in_flight

    def action_of(self, recommendation: Recommendation, by: str) -> Action:
        """The one action that a recommendation can come to."""
        r = recommendation
        key = f"recommendation:{r.id}"
        made = self.action(r.tool, r.target, r.subject, r.before, r.after, by, key, is_action=r.is_action)
        return replace(made, recommendation_id=r.id, mode=r.mode)

    def action(
        self,
        tool: str,
        target: str,
        subject: str,
        before: Value,
        after: Value,
        by: str,
        key: str,
        *,
        is_action: bool = False,
    ) -> Action:
        """An action that is not yet written down. Raises NotFoundError or RefusedError by its tool."""
        trial = self.toolbox.tool(tool).trial
        return Action(
            id=self.new_id(), key=key, recommendation_id=None, tool=tool, target=target, subject=subject,
            is_action=is_action, before=before, after=after, set_before=False, state=ActionState.PROPOSED,
            mode=Mode.APPROVE, by=by, created=self.journal.clock.now(),
            time_scale=self.time_scale if trial else 1.0,
        )  # fmt: skip

    async def send(self, action: Action) -> tuple[Action, Decision | None]:
        """Send what is written down, if it may be: the action as it is then, and what the guard said.

        It stays proposed where the guard, or a pause, lets it wait.
        """
        if action.state is not ActionState.PROPOSED:
            return action, None
        if action.undoes is None and action.recommendation_id is not None:
            why = await self._applied(action.recommendation_id, action.by)
            if why is not None:
                return await self.journal.end(action, ActionState.FAILED, f"not sent: {why}"), None
        decision = await self.decide(action, action.by != ENGINE)
        if decision.verdict != ALLOW:
            return action, decision
        return await self.executor.execute(action), decision

    async def _applied(self, recommendation_id: str, by: str) -> str | None:
        """Its recommendation is decided by that; None, or why it cannot be."""
        ledger = self.journal.ledger
        found = await asyncio.to_thread(ledger.recommendation, recommendation_id)
        if found.state in OPEN:
            applied = replace(found, state=RecommendationState.APPLIED)
            try:
                await asyncio.to_thread(ledger.save_recommendation, applied, "applied", by, found.state)
            except ConflictError:
                return await self._applied(recommendation_id, by)
            return None
        if found.state is RecommendationState.APPLIED:
            return None
        return f"its recommendation is {found.state}"
