"""Notices are rate-limited and sent once; critical incidents are always notified."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.builders.series import SECOND, START
from tests.contracts.incident_store_contract import SUSPECT, make_incident
from trimtab.engine.incidents.notification_policy import NotificationPolicy
from trimtab.engine.incidents.severity import level_of
from trimtab.engine.types import IncidentState, NoticeKind, Silence

DAY = 86_400 * SECOND
WEEK = 7 * DAY
HOUR = 3600 * SECOND


def incident(number, severity, at=START, entity=None, **changed):
    """Return an incident; each number has its own entity unless one is given."""
    name = entity or f"svc/{number}"
    return make_incident(
        number, severity=severity, level=level_of(severity), start=at, entities=(name,), acknowledged_by="",
        suspects=(replace(SUSPECT, entity=name),), **changed,
    )  # fmt: skip


def resolved(opened):
    """Return the resolved version of an incident."""
    return replace(opened, state=IncidentState.RESOLVED, end=opened.start + SECOND)


def kinds(notices):
    """Return the kind of each notice."""
    return [str(notice.kind) for notice in notices]


def simulate_weeks(policy, rng, weeks, begin=0, per_week=200, top=1.0):
    """Simulate weeks of incidents with exponential severities; return the number of notices per week."""
    counts = []
    for week in range(begin, begin + weeks):
        times = np.sort(rng.integers(0, WEEK, per_week))
        severities = np.minimum(rng.exponential(0.12, per_week), 0.79) * top
        notices = []
        for k, (at, severity) in enumerate(zip(times.tolist(), severities.tolist(), strict=True)):
            time = START + week * WEEK + at
            opened = incident(week * 10_000 + k, severity, time)
            notices += policy.step(time, [opened])
            policy.step(time + HOUR, [resolved(opened)])
        counts.append(len(notices))
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_a_week_has_at_most_five_notices(seed):
    """No week has more than five notices, for any number and severity of incidents."""
    for per_week, top in ((20, 1.0), (200, 1.0), (1000, 1.0), (200, 0.6)):
        counts = simulate_weeks(
            NotificationPolicy(), np.random.default_rng(seed), 6, per_week=per_week, top=top
        )
        assert max(counts) <= 5, (per_week, top)


def test_threshold_adapts_to_past_incidents():
    """The threshold falls when incidents are mild and rises when they are frequent."""
    quiet, noisy = NotificationPolicy(), NotificationPolicy()
    simulate_weeks(quiet, np.random.default_rng(1), 4, per_week=40, top=0.6)
    simulate_weeks(noisy, np.random.default_rng(1), 4, per_week=1000)
    later = START + 6 * WEEK
    assert quiet.threshold(later) < 0.65 < noisy.threshold(later) <= 0.8


def test_critical_incidents_are_always_notified():
    """Critical incidents are always notified."""
    policy = NotificationPolicy()
    notices = [
        notice
        for k in range(40)
        for notice in policy.step(START + k * HOUR, [incident(k, 0.9, START + k * HOUR, user_facing=True)])
    ]
    assert len(notices) == 40
    assert notices[0].why == "It is critical (severity 0.90), and users are affected."


def test_critical_incidents_do_not_use_the_budget():
    """Critical incidents do not use the weekly budget of other incidents."""
    policy = NotificationPolicy()
    for k in range(10):
        policy.step(START + k * HOUR, [incident(k, 0.95, START + k * HOUR)])
    (notice,) = policy.step(START + DAY, [incident(99, 0.7, START + DAY)])
    assert notice.why == "Its severity 0.70 exceeds the threshold 0.65; the budget is 5 notifications a week."


def test_incident_is_notified_above_the_threshold():
    """An incident is notified when it exceeds the threshold, when it becomes critical and when it ends."""
    policy = NotificationPolicy()
    sent = []
    for minute, severity in enumerate((0.3, 0.6, 0.7, 0.75, 0.85, 0.9)):
        sent.append(kinds(policy.step(START + minute * 60 * SECOND, [incident(1, severity)])))
    sent.append(kinds(policy.step(START + HOUR, [resolved(incident(1, 0.9))])))
    sent.append(kinds(policy.step(START + 2 * HOUR, [resolved(incident(1, 0.9))])))
    assert sent == [[], [], ["firing"], [], ["worse"], [], ["resolved"], []]


@pytest.mark.parametrize(
    ("after_s", "severity", "entity", "notices"),
    [
        (600, 0.9, "svc/1", []),  # same cause, shortly after
        (600, 0.99, "svc/2", ["firing"]),  # another cause
        (4000, 0.9, "svc/1", ["firing"]),  # same cause, much later
        (600, 0.99, "svc/1", []),  # same cause, barely more severe
    ],
)
def test_same_cause_is_notified_once(after_s, severity, entity, notices):
    """A new incident with the same cause is not notified shortly after the first."""
    policy = NotificationPolicy()
    first = incident(1, 0.9)
    policy.step(START, [first])
    policy.step(START + HOUR, [resolved(first)])
    again = incident(2, severity, START + HOUR + after_s * SECOND, entity=entity)
    assert kinds(policy.step(again.start, [again])) == notices


def test_restart_repeats_no_notice():
    """The state survives JSON and prevents repeated notices."""
    before = NotificationPolicy()
    (notice,) = before.step(START, [incident(1, 0.9)])
    before.add_silence(Silence("s", ("db/*",), START, START + DAY, "ann"))
    after = NotificationPolicy()
    after.restore(json.loads(json.dumps(before.state())))
    assert after.step(START + HOUR, [incident(1, 0.9)]) == []
    assert after.step(START + HOUR, [incident(2, 0.9, entity="svc/1")]) == []
    (notice_of_end,) = after.step(START + 2 * HOUR, [resolved(incident(1, 0.9))])
    assert (notice_of_end.kind, notice_of_end.fingerprint) == (NoticeKind.RESOLVED, notice.fingerprint)
    assert after.state()["silences"] == before.state()["silences"]


def test_silence_holds_notices_back_until_it_ends():
    """A silence holds back incidents whose entities all match, until it ends."""
    policy = NotificationPolicy()
    policy.add_silence(Silence("s", ("svc/*",), START, START + HOUR, "ann", "maintenance"))
    wide = replace(incident(3, 0.95), entities=("svc/3", "db/1"))
    resolved_early = incident(2, 0.95)
    notices = policy.step(START, [incident(1, 0.95), resolved_early, wide])
    assert [notice.incident.id for notice in notices] == [wide.id]
    assert policy.step(START + 1, [resolved(resolved_early)]) == []
    assert kinds(policy.step(START + HOUR - 1, [])) == []
    (late,) = policy.step(START + HOUR, [])
    assert late.incident.id == incident(1, 0.95).id
    assert policy.step(START + HOUR + 1, []) == []


@pytest.mark.parametrize(
    ("state", "notices"),
    [
        (IncidentState.RESOLVED, []),
        (IncidentState.ACKNOWLEDGED, []),
        (IncidentState.OPEN, ["firing"]),
    ],
)
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_end_of_silence_notifies_only_open_incidents(state, notices, early, restart):
    """When a silence ends, only incidents that are still open are notified."""
    policy = NotificationPolicy()
    policy.add_silence(Silence("s", ("*",), START, START + HOUR, "ann"))
    assert policy.step(START, [incident(1, 0.95)]) == []
    if restart:
        before, policy = policy, NotificationPolicy()
        policy.restore(before.state())
        assert policy.restored_held == (incident(1, 0.95).id,)
    if early:
        policy.end_silence("s")
    end = START + (HOUR // 2 if early else HOUR)
    assert kinds(policy.step(end, [incident(1, 0.95, state=state)])) == notices
    assert policy.step(end + 1, []) == []


def test_silence_can_be_ended_early():
    """Ending a silence early sends the notices it held back."""
    policy = NotificationPolicy()
    policy.add_silence(Silence("s", ("*",), START, START + DAY, "ann"))
    assert policy.step(START, [incident(1, 0.95)]) == []
    policy.end_silence("s")
    assert kinds(policy.step(START + 1, [])) == ["firing"]


def test_acknowledged_incident_is_not_notified():
    """An acknowledged incident is only notified when it ends."""
    policy = NotificationPolicy()
    policy.step(START, [incident(1, 0.7)])
    acknowledged = incident(1, 0.95, state=IncidentState.ACKNOWLEDGED)
    assert policy.step(START + 1, [acknowledged]) == []
    assert kinds(policy.step(START + 2, [resolved(acknowledged)])) == ["resolved"]
    assert policy.step(START + 3, [incident(2, 0.95, state=IncidentState.ACKNOWLEDGED)]) == []


def test_merge_transfers_the_notice():
    """A merge transfers the notice, so the remaining incident is not notified again."""
    policy = NotificationPolicy()
    policy.step(START, [incident(2, 0.9)])
    target = incident(1, 0.95)
    merged = replace(resolved(incident(2, 0.9)), merged_into=target.id)
    assert policy.step(START + 1, [merged, target]) == []
    assert kinds(policy.step(START + 2, [resolved(target)])) == ["resolved"]
