"""Creates actions and sends them after the guard's second check."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from trimtab.engine.actions.decision_contracts import ALLOW, OPEN_STATES, Guard
from trimtab.engine.actions.executor import Executor
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.actions.journal import ENGINE, Journal
from trimtab.engine.errors import ConflictError
from trimtab.engine.ports import Toolbox
from trimtab.engine.types import Action, ActionState, Mode, Recommendation, RecommendationState, Value


class ActionLauncher:
    """Creates and sends actions for operators and for the scheduler.

    new_id     : returns a ULID
    time_scale : factor on the guard's durations, applied to trial tools only
    """

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        toolbox: Toolbox,
        decide: Guard,
        new_id: Callable[[], str],
        time_scale: float = 1.0,
    ) -> None:
        self.journal = journal
        self.executor = executor
        self.toolbox = toolbox
        self.decide = decide
        self.new_id = new_id
        self.time_scale = time_scale
        self.reserved: set[str] = set()
        """Ids of actions whose caller waits for them; the scheduler leaves them alone."""

    @contextmanager
    def reserve(self, action: Action) -> Iterator[None]:
        """Reserve an action for its caller, from before it is journaled."""
        self.reserved.add(action.id)
        try:
            yield
        finally:
            self.reserved.discard(action.id)

    def is_busy(self, action_id: str) -> bool:
        """Return whether the action is reserved or being sent."""
        return action_id in self.reserved or action_id in self.executor.in_flight

    def action_for(self, recommendation: Recommendation, by: str) -> Action:
        """Return the action of a recommendation, not yet journaled; its key allows only one."""
        r = recommendation
        key = f"recommendation:{r.id}"
        made = self.new_action(r.tool, r.target, r.subject, r.before, r.after, by, key, is_action=r.is_action)
        return replace(made, recommendation_id=r.id, mode=r.mode)

    def new_action(
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
        """Return a new action, not yet journaled. Raises NotFoundError or RefusedError for its tool."""
        trial = self.toolbox.tool(tool).trial
        return Action(
            id=self.new_id(), key=key, recommendation_id=None, tool=tool, target=target, subject=subject,
            is_action=is_action, before=before, after=after, set_before=False, state=ActionState.PROPOSED,
            mode=Mode.APPROVE, by=by, created=self.journal.clock.now(),
            time_scale=self.time_scale if trial else 1.0,
        )  # fmt: skip

    async def send(self, action: Action) -> tuple[Action, GuardDecision | None]:
        """Send a journaled action if the guard allows it; return the action and the guard's decision.

        The action stays proposed while the guard or a pause holds it. The decision is None if the guard was
        not asked.
        """
        if action.state is not ActionState.PROPOSED:
            return action, None
        if action.undoes is None and action.recommendation_id is not None:
            why = await self._mark_applied(action.recommendation_id, action.by)
            if why is not None:
                return await self.journal.end(action, ActionState.FAILED, f"not sent: {why}"), None
        decision = await self.decide(action, action.by != ENGINE)
        if decision.verdict != ALLOW:
            return action, decision
        return await self.executor.execute(action), decision

    async def _mark_applied(self, recommendation_id: str, by: str) -> str | None:
        """Mark the recommendation as applied; return why that is not possible, or None."""
        ledger = self.journal.ledger
        found = await asyncio.to_thread(ledger.recommendation, recommendation_id)
        if found.state in OPEN_STATES:
            applied = replace(found, state=RecommendationState.APPLIED)
            try:
                await asyncio.to_thread(ledger.save_recommendation, applied, "applied", by, found.state)
            except ConflictError:
                return await self._mark_applied(recommendation_id, by)
            return None
        if found.state is RecommendationState.APPLIED:
            return None
        return f"its recommendation is {found.state}"
