"""Recommendations and actions for tests."""

from dataclasses import replace
from typing import Any

from tests.builders.series import SECOND, START
from trimtab.engine.types import Action, ActionState, Effect, Mode, Recommendation, Risk

EFFECT = Effect("s1", "hit ratio of cache-1", "", 0.4, 0.9, 0.8, 0.95)


def make_recommendation(recommendation_id: str, **changed: Any) -> Recommendation:
    """Return a recommendation to raise maxmemory of cache-1 from 100 to 125, mode approve."""
    recommendation = Recommendation(
        id=recommendation_id, created=START, expires=START + 3600 * SECOND, tool="redis", target="cache-1",
        subject="maxmemory", is_action=False, before=100, after=125, title="Give cache-1 more memory",
        effect=EFFECT, evidence=("evictions 40/s",), confidence=0.8, risk=Risk.LOW, cost="25 bytes",
        disproof="the hit ratio stays", mode=Mode.APPROVE, fingerprint="redis/cache-1/maxmemory/up",
    )  # fmt: skip
    return replace(recommendation, **changed)


def make_action(action_id: str, **changed: Any) -> Action:
    """Return the proposed action of `make_recommendation`."""
    action = Action(
        id=action_id, key=f"key-{action_id}", recommendation_id=None, tool="redis", target="cache-1",
        subject="maxmemory", is_action=False, before=100, after=125, set_before=True,
        state=ActionState.PROPOSED, mode=Mode.AUTO, by="trimtab", created=START,
    )  # fmt: skip
    return replace(action, **changed)
