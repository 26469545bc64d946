"""Proposals and situations for guard tests; the defaults pass every guard rule."""

from dataclasses import replace
from typing import Any

import pytest

from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.situation import (
    AgedAction,
    InputQuality,
    MassAnomalyStatus,
    ProposalStability,
    Situation,
)
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import (
    Action,
    ActionState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    MemoryOutlook,
    Mode,
    Pause,
    Recommendation,
    Risk,
    ToolAction,
)

LIMITS = Guardrails()
MIB = 2**20
GOOD_INPUTS = InputQuality(series=4, missing=0, newest_age=1.0, present_ratio=1.0, source_up=True)
NO_MASS_ANOMALY = MassAnomalyStatus(anomalous=0, watched=100, sources_down=0, sources=3)
ENOUGH_MEMORY = MemoryOutlook(16 * 2**30, (("data", 2.0 * 2**30), ("others", 2.0**30)))
STABLE = ProposalStability(evaluations=3, since_s=300.0, last_s=10.0, max_value=0.0)
MAXMEMORY = Knob("maxmemory", KnobType.INT, "B", low=64 * MIB, high=8 * 2**30)
WORKERS = Knob("workers", KnobType.INT, "", low=1, high=64)
SPEED = Knob("speed", KnobType.FLOAT, "", low=0, high=1000)
POLICY = Knob(
    "maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "allkeys-lfu", "volatile-lru", "noeviction")
)
RESTART = ToolAction("restart", "start it again", Risk.MEDIUM)


def make_proposal(**changed: Any) -> Recommendation:
    """Return the engine's proposal to raise maxmemory of cache-1 from 1000 to 1200 MiB."""
    made = Recommendation(
        id="R1", created=START - 60 * SECOND, expires=START + 3600 * SECOND, tool="redis", target="cache-1",
        subject="maxmemory", is_action=False, before=1000 * MIB, after=1200 * MIB, title="more memory",
        effect=None, evidence=("hit ratio 0.6",), confidence=0.9, risk=Risk.LOW, cost="200 MiB", disproof="",
        mode=Mode.AUTO, fingerprint="redis/cache-1/maxmemory/up",
    )  # fmt: skip
    return replace(made, **changed)


def make_situation(**changed: Any) -> Situation:
    """Return a situation with mode auto that passes every guard rule."""
    made = Situation(
        now=START, uptime_s=3600.0, pause=Pause(on=False), mode=Mode.AUTO, targets=("cache-1", "cache-2"),
        total_targets=10, knob=MAXMEMORY, reading=KnobReading(1000 * MIB, True, Lasts.UNTIL_RESTART),
        inputs=GOOD_INPUTS, stability=STABLE, mass=NO_MASS_ANOMALY, memory=ENOUGH_MEMORY,
    )  # fmt: skip
    return replace(made, **changed)


def make_change(knob: Knob, before: Any, after: Any, **more: Any) -> tuple[Recommendation, Situation]:
    """Return a proposal for another knob and its situation."""
    reading = KnobReading(before, before is not None, Lasts.UNTIL_RESTART)
    memory = more.pop("memory", None)
    proposal = make_proposal(subject=knob.name, before=before, after=after)
    return proposal, make_situation(knob=knob, reading=reading, memory=memory, **more)


def make_aged_action(age_s: float, **changed: Any) -> AgedAction:
    """Return a kept action on another target (cache-2) of this age in seconds."""
    at = START - round(age_s * SECOND)
    made = Action(
        id=f"A{age_s}", key=f"k{age_s}", recommendation_id=None, tool="redis", target="cache-2",
        subject="maxmemory", is_action=False, before=100 * MIB, after=120 * MIB, set_before=True,
        state=ActionState.KEPT, mode=Mode.AUTO, by="trimtab", created=at, started=at, ended=at,
    )  # fmt: skip
    return AgedAction(replace(made, **changed), age_s)


def past_change(age_s: float, before: Any = 80, after: Any = 100, **changed: Any) -> AgedAction:
    """Return a kept change of the knob `speed` of cache-1 of this age in seconds."""
    values = {"subject": "speed", "target": "cache-1", "before": before, "after": after}
    return make_aged_action(age_s, **{**values, **changed})


def verdict_of(
    proposal: Recommendation, situation: Situation, limits: Guardrails = LIMITS, person: bool = False
) -> str:
    """Return the verdict and the name of the rule that gave it."""
    decision = decide(proposal, situation, limits, person)
    return f"{decision.verdict} {decision.guard}".strip()


def named_cases(table):
    """Return rows of (name, values ...) as pytest parameters with their names as ids."""
    return [pytest.param(*values, id=name) for name, *values in table]
