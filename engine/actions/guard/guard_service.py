"""Guard service: reads the ledger and the target, then decides on a recommendation or action."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from trimtab.engine.actions.guard.guard import GuardDecision, decide
from trimtab.engine.actions.guard.situation_builder import (
    RECENT_ACTIONS,
    SituationBuilder,
    TargetObservation,
    proposal_from_action,
)
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.types import Action, Mode, Pause, Recommendation

ObserveTarget = Callable[[Recommendation], Awaitable[TargetObservation]]
"""Observes a proposal's target; raises ToolError if the target cannot be read."""


class GuardService:
    """Decides on proposals with the current situation.

    monotonic : monotonic clock in ns, such as time.monotonic_ns
    observe   : observes the proposal's target

    Another action may be journaled between a decision and its action, so every action is checked again before
    it is sent; of two the earlier one passes.
    """

    def __init__(
        self,
        situation_builder: SituationBuilder,
        ledger: Ledger,
        clock: Clock,
        monotonic: Callable[[], int],
        observe: ObserveTarget,
    ) -> None:
        self.situation_builder = situation_builder
        self.ledger = ledger
        self.clock = clock
        self.monotonic = monotonic
        self.observe = observe

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> GuardDecision:
        """Return the decision now. An action is judged as the recommendation that it carries out.

        person : whether an operator decided on it. Raises ToolError, StoreError.
        """
        wanted, undoes = await asyncio.to_thread(self._proposal, proposal)
        return await self._decide(wanted, await self.observe(wanted), undoes, person)

    async def decide_as_auto(self, wanted: Recommendation) -> GuardDecision:
        """Return the decision as if the mode were auto and no operator involved. Raises like a call."""
        return await self._decide(wanted, replace(await self.observe(wanted), mode=Mode.AUTO), None, False)

    async def _decide(
        self, wanted: Recommendation, live: TargetObservation, undoes: Action | None, person: bool
    ) -> GuardDecision:
        actions, pause = await asyncio.to_thread(self._read_ledger)
        self.situation_builder.advance(self.monotonic())
        situation = self.situation_builder.build(wanted, self.clock.now(), pause, actions, live, undoes)
        return decide(wanted, situation, self.situation_builder.limits, person)

    def _proposal(self, asked: Recommendation | Action) -> tuple[Recommendation, Action | None]:
        if isinstance(asked, Recommendation):
            return asked, None
        if asked.undoes is not None:
            return proposal_from_action(asked), self.ledger.action(asked.undoes)
        if asked.recommendation_id is not None:
            return self.ledger.recommendation(asked.recommendation_id), None
        return proposal_from_action(asked), None

    def _read_ledger(self) -> tuple[list[Action], Pause]:
        newest = self.ledger.actions(limit=RECENT_ACTIONS)
        return [*newest, *self.ledger.actions(unfinished=True, limit=RECENT_ACTIONS)], self.ledger.pause()
