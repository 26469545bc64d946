"""Scaling advice: from a wanted capacity to a change of a knob."""

from dataclasses import replace

import pytest

from trimtab.engine.api.shapes.examples import CAPACITY
from trimtab.engine.recommendations.recommender import Recommender
from trimtab.engine.recommendations.scaling_advice import draft_scaling
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import (
    Action,
    ActionState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    Mode,
    Outcome,
    Risk,
)

NOW = 1_800_000_000 * 10**9
INSTANCES = Knob("instances", KnobType.INT, "instances", low=1, high=8, step=1, group="checkout")


def facts(instances=5, mode=Mode.AUTO):
    """Return the facts of a PM2 application with this many instances."""
    reading = KnobReading(instances, True, Lasts.UNTIL_RESTART)
    return TargetFacts("pm2", "pm2", "checkout", knobs={"instances": (INSTANCES, reading)}, modes={"*": mode})


@pytest.mark.parametrize(
    ("wanted", "now", "after", "risk"),
    [
        (6, 5, 6, Risk.LOW),
        (9, 5, 6, Risk.LOW),  # one step of the knob at a time
        (4, 5, 4, Risk.MEDIUM),  # a decrease is riskier
        (20, 8, None, None),  # the upper bound of the knob
        (5, 5, None, None),
        (None, 5, None, None),  # unknown: no change
    ],
)
def test_draft_is_one_step_towards_the_wanted_size(wanted, now, after, risk):
    """A draft goes one allowed step towards the wanted size, or is None."""
    made = draft_scaling(replace(CAPACITY, wanted=wanted), facts(now))
    assert (made and made.after, made and made.risk) == (after, risk)


def test_draft_holds_its_evidence():
    """A draft holds forecast, reactive count, capacity per replica, cost and utilisation."""
    made = draft_scaling(CAPACITY, facts())
    assert "684" in made.evidence[0]
    assert "reactive rule asks for 5" in made.evidence[1]
    assert "114" in made.evidence[2]
    assert made.cost == "2.40 a day more"
    assert made.evidence[3] == "utilisation goes from 69% to 57%"
    assert (made.effect.before, made.effect.expected, made.effect.high) == (412.0, 480.0, 684.0)


def advise(actions=()):
    """Return the advice for a rising load without an incident."""
    recommender = Recommender(lambda _: "R1")
    return recommender.advise(NOW, [], [], [], list(actions), [draft_scaling(CAPACITY, facts())])


def test_it_is_recommended_without_an_incident():
    """Scaling is recommended without an incident in the mode of the knob."""
    (made,) = advise().recommendations
    assert (made.before, made.after, made.mode, made.incident_id) == (5, 6, Mode.AUTO, None)
    assert made.fingerprint == "pm2/checkout/instances/up"


def earlier_action(state, number):
    """Return the same step some hours earlier."""
    created = NOW - (number + 2) * 3600 * 10**9
    return Action(
        f"A{number}", f"key {number}", "R0", "pm2", "checkout", "instances", False, 4, 5, True, state,
        Mode.AUTO, "trimtab", created, created, created + 10**9, outcome=Outcome(state, "no harm seen"),
    )  # fmt: skip


def test_repeated_scaling_is_not_withheld():
    """Many steps in one direction within a day withhold no scaling step."""
    assert len(advise([earlier_action(ActionState.KEPT, n) for n in range(5)]).recommendations) == 1


def test_a_rolled_back_step_is_withheld():
    """A step that was rolled back within a day is withheld."""
    found = advise([earlier_action(ActionState.ROLLED_BACK, 1)])
    assert found.recommendations == ()
    assert "rolled back" in found.withheld[0][1]
