"""From what a load needs to a change of a knob."""

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
    """An application of PM2 with so many instances."""
    reading = KnobReading(instances, True, Lasts.UNTIL_RESTART)
    return TargetFacts("pm2", "pm2", "checkout", knobs={"instances": (INSTANCES, reading)}, modes={"*": mode})


@pytest.mark.parametrize(
    ("wanted", "now", "after", "risk"),
    [
        (6, 5, 6, Risk.LOW),
        (9, 5, 6, Risk.LOW),  # one step of its knob at once
        (4, 5, 4, Risk.MEDIUM),  # less is riskier
        (20, 8, None, None),  # no more than the knob may be
        (5, 5, None, None),
        (None, 5, None, None),  # unknown is no change
    ],
)
def test_a_step_towards_what_is_wanted(wanted, now, after, risk):
    """The draft goes one allowed step of the way, or there is none."""
    made = draft_scaling(replace(CAPACITY, wanted=wanted), facts(now))
    assert (made and made.after, made and made.risk) == (after, risk)


def test_a_draft_says_what_it_rests_on():
    """Forecast, reactive rule, what one serves, its cost, and the utilisation to come."""
    made = draft_scaling(CAPACITY, facts())
    assert "684" in made.evidence[0]
    assert "reactive rule asks for 5" in made.evidence[1]
    assert "114" in made.evidence[2]
    assert made.cost == "2.40 a day more"
    assert made.evidence[3] == "utilisation goes from 69% to 57%"
    assert (made.effect.before, made.effect.expected, made.effect.high) == (412.0, 480.0, 684.0)


def advise(actions=()):
    """One look with nothing wrong but a load that rises."""
    recommender = Recommender(lambda _: "R1")
    return recommender.advise(NOW, [], [], [], list(actions), [draft_scaling(CAPACITY, facts())])


def test_it_is_recommended_without_an_incident():
    """A load that rises is no incident: the recommendation stands alone, in the mode of its knob."""
    (made,) = advise().recommendations
    assert (made.before, made.after, made.mode, made.incident_id) == (5, 6, Mode.AUTO, None)
    assert made.fingerprint == "pm2/checkout/instances/up"


def earlier(state, number):
    """The same step, hours ago."""
    created = NOW - (number + 2) * 3600 * 10**9
    return Action(
        f"A{number}", f"key {number}", "R0", "pm2", "checkout", "instances", False, 4, 5, True, state,
        Mode.AUTO, "trimtab", created, created, created + 10**9, outcome=Outcome(state, "no harm seen"),
    )  # fmt: skip


def test_a_load_may_rise_often():
    """Many steps the same way within a day withhold none: they were asked for by the load, not by a guess."""
    assert len(advise([earlier(ActionState.KEPT, n) for n in range(5)]).recommendations) == 1


def test_what_had_to_be_taken_back_is_withheld():
    """A step that was rolled back within the day is not tried again."""
    found = advise([earlier(ActionState.ROLLED_BACK, 1)])
    assert found.recommendations == ()
    assert "rolled back" in found.withheld[0][1]
