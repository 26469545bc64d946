"""Asks the guard: reads what it decides from, for a recommendation, or for the action that it came to."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from trimtab.engine.actions.guard.guard import Decision, decide
from trimtab.engine.actions.guard.situation_builder import RECENT, Live, Memory, proposal_of
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.types import Action, Mode, Pause, Recommendation

See = Callable[[Recommendation], Awaitable[Live]]
"""What is known now of a proposal's target; raises ToolError where that cannot be known."""


class Asking:
    """The guard with all that it looks at.

    monotonic : nanoseconds of a clock that nobody sets, as time.monotonic_ns

    Nothing else may write actions down between a question and the action that it allows, or both have to be
    asked about again before they are sent: of two the earlier goes first then.
    """

    def __init__(
        self, memory: Memory, ledger: Ledger, clock: Clock, monotonic: Callable[[], int], see: See
    ) -> None:
        self.memory = memory
        self.ledger = ledger
        self.clock = clock
        self.monotonic = monotonic
        self.see = see

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> Decision:
        """May it be done now? An action is asked about as the recommendation that it came from.

        Raises ToolError, StoreError.
        """
        wanted, undoes = await asyncio.to_thread(self._proposal, proposal)
        return await self._said(wanted, await self.see(wanted), undoes, person)

    async def in_mode_auto(self, wanted: Recommendation) -> Decision:
        """What would be said of it, had its mode been auto and nobody been asked. Raises as above."""
        return await self._said(wanted, replace(await self.see(wanted), mode=Mode.AUTO), None, False)

    async def _said(
        self, wanted: Recommendation, live: Live, undoes: Action | None, person: bool
    ) -> Decision:
        actions, pause = await asyncio.to_thread(self._stored)
        self.memory.tick(self.monotonic())
        situation = self.memory.situation(wanted, self.clock.now(), pause, actions, live, undoes)
        return decide(wanted, situation, self.memory.limits, person)

    def _proposal(self, asked: Recommendation | Action) -> tuple[Recommendation, Action | None]:
        if isinstance(asked, Recommendation):
            return asked, None
        if asked.undoes is not None:
            return proposal_of(asked), self.ledger.action(asked.undoes)
        if asked.recommendation_id is not None:
            return self.ledger.recommendation(asked.recommendation_id), None
        return proposal_of(asked), None

    def _stored(self) -> tuple[list[Action], Pause]:
        newest = self.ledger.actions(limit=RECENT)
        return [*newest, *self.ledger.actions(unfinished=True, limit=RECENT)], self.ledger.pause()
