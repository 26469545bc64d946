"""A proposal that every guardrail lets pass, and how to change one thing of it."""

from dataclasses import replace
from typing import Any

import pytest

from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.situation import Inputs, Mass, Past, Situation, Standing
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
GOOD = Inputs(series=4, missing=0, newest=1.0, present=1.0, source_up=True)
CALM = Mass(anomalous=0, watched=100, sources_down=0, sources=3)
ROOM = MemoryOutlook(16 * 2**30, (("data", 2.0 * 2**30), ("others", 2.0**30)))
STOOD = Standing(evaluations=3, since_s=300.0, last_s=10.0, most=0.0)
MAXMEMORY = Knob("maxmemory", KnobType.INT, "B", low=64 * MIB, high=8 * 2**30)
WORKERS = Knob("workers", KnobType.INT, "", low=1, high=64)
SPEED = Knob("speed", KnobType.FLOAT, "", low=0, high=1000)
POLICY = Knob(
    "maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "allkeys-lfu", "volatile-lru", "noeviction")
)
RESTART = ToolAction("restart", "start it again", Risk.MEDIUM)


def asked(**changed: Any) -> Recommendation:
    """The maxmemory of cache-1 from 1000 to 1200 MiB, by the engine."""
    made = Recommendation(
        id="R1", created=START - 60 * SECOND, expires=START + 3600 * SECOND, tool="redis", target="cache-1",
        subject="maxmemory", is_action=False, before=1000 * MIB, after=1200 * MIB, title="more memory",
        effect=None, evidence=("hit ratio 0.6",), confidence=0.9, risk=Risk.LOW, cost="200 MiB", disproof="",
        mode=Mode.AUTO, fingerprint="redis/cache-1/maxmemory/up",
    )  # fmt: skip
    return replace(made, **changed)


def around(**changed: Any) -> Situation:
    """Everything is well, and the mode is auto."""
    made = Situation(
        now=START, uptime_s=3600.0, pause=Pause(on=False), mode=Mode.AUTO, targets=("cache-1", "cache-2"),
        targets_in_all=10, knob=MAXMEMORY, reading=KnobReading(1000 * MIB, True, Lasts.UNTIL_RESTART),
        inputs=GOOD, standing=STOOD, mass=CALM, memory=ROOM,
    )  # fmt: skip
    return replace(made, **changed)


def change(knob: Knob, before: Any, after: Any, **more: Any) -> tuple[Recommendation, Situation]:
    """Another knob's change, and the situation in which it is read."""
    reading = KnobReading(before, before is not None, Lasts.UNTIL_RESTART)
    memory = more.pop("memory", None)
    proposal = asked(subject=knob.name, before=before, after=after)
    return proposal, around(knob=knob, reading=reading, memory=memory, **more)


def past(age_s: float, **changed: Any) -> Past:
    """A change of another target (cache-2) that was kept, so long ago."""
    at = START - round(age_s * SECOND)
    made = Action(
        id=f"A{age_s}", key=f"k{age_s}", recommendation_id=None, tool="redis", target="cache-2",
        subject="maxmemory", is_action=False, before=100 * MIB, after=120 * MIB, set_before=True,
        state=ActionState.KEPT, mode=Mode.AUTO, by="trimtab", created=at, started=at, ended=at,
    )  # fmt: skip
    return Past(replace(made, **changed), age_s)


def said(
    proposal: Recommendation, situation: Situation, limits: Guardrails = LIMITS, person: bool = False
) -> str:
    """The verdict, and the row that gave it."""
    decision = decide(proposal, situation, limits, person)
    return f"{decision.verdict} {decision.guard}".strip()


def rows(table):
    """Rows of (name, values ...) as cases that are called by their name."""
    return [pytest.param(*values, id=name) for name, *values in table]
