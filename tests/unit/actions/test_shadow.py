"""Shadows: what mode auto would have done, and what happened without it."""

from dataclasses import replace

import pytest

from tests.builders.action_stack import EFFECT, SERIES, FakeDecision, open_ledger
from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.ports import FakeScoreLog
from trimtab.engine.actions.shadow import ShadowRecorder
from trimtab.engine.errors import StoreError, ToolError
from trimtab.engine.types import (
    Incident,
    IncidentState,
    Mode,
    RecommendationState,
    Severity,
    ShadowEnd,
)

R = RecommendationState
MINUTE = 60 * SECOND
INCIDENT = Incident(
    ulid(900), START, None, IncidentState.OPEN, "thrash", 0.5, Severity.MEDIUM, False, False, ("c1",), ()
)


class ShadowStack:
    """A shadow recorder over a real ledger, with a guard decision that tests set."""

    def __init__(self, ledger):
        self.ledger, self.clock = ledger, ledger.clock
        self.incidents, self.scores, self.decision = FakeIncidents(), FakeScoreLog(), FakeDecision()
        self.incidents.save_incidents([INCIDENT])
        self.start()

    def start(self):
        """Start the recorder as after a restart."""
        self.recorder = ShadowRecorder(
            self.incidents, self.ledger, self.scores, self.clock, self.decide_as_auto
        )

    async def decide_as_auto(self, _):
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision

    def recommend(self, number=500, **changed):
        """Store a pending recommendation."""
        defaults = {"mode": Mode.APPROVE, "effect": EFFECT, "incident_id": INCIDENT.id, "state": R.PENDING}
        made = make_recommendation(ulid(number), **{**defaults, **changed})
        self.ledger.save_recommendation(made, "proposed", "trimtab")
        return made

    async def run_for(self, seconds, level, off=()):
        """Advance the clock with a sample and an update every 15 s; return all updated recommendations."""
        updated = []
        for _ in range(round(seconds / 15)):
            self.clock.tick(15)
            self.scores.rows.setdefault(SERIES, []).append((self.clock.now(), level, 0.0, 0.5, 0.4, 0.6))
            updated += await self.recorder.update(off)
        return updated

    def shadow(self, number=500):
        return self.ledger.recommendation(ulid(number)).shadow

    def audit_words(self):
        return [row.what for row in self.ledger.audit_rows() if row.what != "proposed"]


@pytest.fixture
def stack(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ShadowStack(ledger)


async def test_a_shadow_records_start_and_end(stack):
    """A shadow starts when the guard would allow the action and ends with the incident, with its metric."""
    stack.recommend()
    stack.decision = FakeDecision("refuse", "persistence", "wait")
    assert await stack.run_for(120, 0.9) == []
    stack.decision = FakeDecision()
    (begun,) = await stack.run_for(15, 0.9)
    shadow = stack.shadow()
    assert begun.shadow == shadow
    assert (shadow.time, shadow.before, shadow.after) == (stack.clock.now(), begun.before, begun.after)
    assert (shadow.figure, shadow.figure_before) == ("hit ratio", pytest.approx(0.9))
    assert await stack.run_for(300, 0.7) == []
    resolved = stack.clock.now() - MINUTE
    stack.incidents.save_incidents([replace(INCIDENT, state=IncidentState.RESOLVED, end=resolved)])
    (ended,) = await stack.run_for(15, 0.97)
    assert (ended.shadow.end, ended.shadow.ended) == (ShadowEnd.OVER, resolved)
    assert ended.shadow.figure_since == pytest.approx(0.712, abs=0.01)
    assert await stack.run_for(60, 0.97) == []
    assert stack.audit_words() == ["would have been done", "without it: over"]


async def test_a_metric_without_samples_keeps_the_recommended_value(stack):
    """Without samples the metric before is the recommendation's and the metric since is None."""
    stack.recommend()
    (begun,) = await stack.recorder.update([])
    assert (begun.shadow.figure_before, begun.shadow.figure_since) == (EFFECT.before, None)


async def test_a_shadow_keeps_the_highest_severity(stack):
    """A shadow keeps the highest severity of the incident, also over a restart."""
    stack.recommend()
    await stack.run_for(15, 0.7)
    stack.start()
    stack.incidents.save_incidents([replace(INCIDENT, severity=0.85)])
    await stack.run_for(30, 0.5)
    shadow = stack.shadow()
    assert (shadow.severity, shadow.worst, shadow.ended) == (0.5, 0.85, None)
    assert stack.audit_words() == ["would have been done", "without it: worse"]


@pytest.mark.parametrize(
    ("event", "end"),
    [("applied", ShadowEnd.DONE), ("changed", ShadowEnd.CHANGED), ("a day", ShadowEnd.WENT_ON)],
)
async def test_reasons_for_the_end_of_a_shadow(stack, event, end):
    """A shadow ends when the recommendation is applied, the target is changed, or a day has passed."""
    made = stack.recommend()
    await stack.run_for(15, 0.7)
    if event == "applied":
        now = stack.ledger.recommendation(made.id)
        stack.ledger.save_recommendation(replace(now, state=R.APPLIED), "applied", "ann")
    elif event == "changed":
        started = make_action(ulid(7), key="k", tool=made.tool, target=made.target, created=stack.clock.now())
        stack.ledger.propose(replace(started, started=stack.clock.now()), "proposed", "ann")
    else:
        stack.clock.tick(86_400)
    await stack.run_for(15, 0.7)
    assert stack.shadow().end is end


async def test_mode_off_records_a_shadow(stack):
    """Mode off records one shadow per fingerprint as an expired recommendation until its reason is gone."""
    switched_off = make_recommendation(ulid(700), mode=Mode.OFF, incident_id=None, effect=None)
    again = replace(switched_off, id=ulid(701))
    assert await stack.run_for(15, 0.7, [switched_off]) != []
    assert await stack.run_for(15, 0.7, [again]) == []
    (kept,) = stack.ledger.recommendations()
    assert (kept.id, kept.state, kept.shadow.end) == (ulid(700), R.EXPIRED, ShadowEnd.OPEN)
    assert "mode is off" in kept.reason
    (ended,) = await stack.run_for(15, 0.7)
    assert ended.shadow.end is ShadowEnd.OVER


@pytest.mark.parametrize("changed", [{"mode": Mode.AUTO}, {"state": R.APPROVED}, {"state": R.DISMISSED}])
async def test_decided_and_automatic_recommendations_have_no_shadow(stack, changed):
    """Automatic and decided recommendations get no shadow."""
    stack.recommend(**changed)
    assert await stack.run_for(30, 0.7) == []


async def test_an_unobservable_target_has_no_shadow(stack):
    """A target that cannot be observed gets no shadow; a store error is raised."""
    stack.recommend()
    stack.decision = ToolError("away")
    assert await stack.run_for(30, 0.7) == []
    stack.decision = StoreError("disk full")
    with pytest.raises(StoreError):
        await stack.run_for(15, 0.7)
