"""Notices are rare, sent once, and never limited for critical incidents."""

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
    """An incident of an entity of its own unless one is given."""
    name = entity or f"svc/{number}"
    return make_incident(
        number, severity=severity, level=level_of(severity), start=at, entities=(name,), acknowledged_by="",
        suspects=(replace(SUSPECT, entity=name),), **changed,
    )  # fmt: skip


def resolved(one):
    """The incident when it is resolved."""
    return replace(one, state=IncidentState.RESOLVED, end=one.start + SECOND)


def kinds(notices):
    """What they tell."""
    return [str(notice.kind) for notice in notices]


def simulate_weeks(notifying, rng, weeks, begin=0, a_week=200, top=1.0):
    """Weeks of incidents whose severities thin out; the notices of each week."""
    told = []
    for week in range(begin, begin + weeks):
        times = np.sort(rng.integers(0, WEEK, a_week))
        severities = np.minimum(rng.exponential(0.12, a_week), 0.79) * top
        notices = []
        for k, (at, severity) in enumerate(zip(times.tolist(), severities.tolist(), strict=True)):
            time = START + week * WEEK + at
            one = incident(week * 10_000 + k, severity, time)
            notices += notifying.step(time, [one])
            notifying.step(time + HOUR, [resolved(one)])
        told.append(len(notices))
    return told


@pytest.mark.parametrize("seed", range(3))
def test_a_week_has_at_most_five_notices(seed):
    """No week has more than five notices, whatever the installation."""
    for a_week, top in ((20, 1.0), (200, 1.0), (1000, 1.0), (200, 0.6)):
        told = simulate_weeks(NotificationPolicy(), np.random.default_rng(seed), 6, a_week=a_week, top=top)
        assert max(told) <= 5, (a_week, top)


def test_threshold_follows_the_past():
    """The threshold falls where incidents are mild and rises where they are frequent."""
    quiet, noisy = NotificationPolicy(), NotificationPolicy()
    simulate_weeks(quiet, np.random.default_rng(1), 4, a_week=40, top=0.6)
    simulate_weeks(noisy, np.random.default_rng(1), 4, a_week=1000)
    later = START + 6 * WEEK
    assert quiet.threshold(later) < 0.65 < noisy.threshold(later) <= 0.8


def test_critical_incidents_are_always_notified():
    """Critical incidents are always notified."""
    notifying = NotificationPolicy()
    told = [
        notice
        for k in range(40)
        for notice in notifying.step(START + k * HOUR, [incident(k, 0.9, START + k * HOUR, user_facing=True)])
    ]
    assert len(told) == 40
    assert told[0].why == "It is critical (severity 0.90), and users are affected."


def test_critical_incidents_do_not_use_the_budget():
    """Critical incidents do not use the budget of others."""
    notifying = NotificationPolicy()
    for k in range(10):
        notifying.step(START + k * HOUR, [incident(k, 0.95, START + k * HOUR)])
    (notice,) = notifying.step(START + DAY, [incident(99, 0.7, START + DAY)])
    assert notice.why == "Its severity 0.70 exceeds the threshold 0.65; the budget is 5 notifications a week."


def test_incident_is_notified_above_the_threshold():
    """An incident is notified when it exceeds the threshold, becomes critical, and ends."""
    notifying = NotificationPolicy()
    said = []
    for minute, severity in enumerate((0.3, 0.6, 0.7, 0.75, 0.85, 0.9)):
        said.append(kinds(notifying.step(START + minute * 60 * SECOND, [incident(1, severity)])))
    said.append(kinds(notifying.step(START + HOUR, [resolved(incident(1, 0.9))])))
    said.append(kinds(notifying.step(START + 2 * HOUR, [resolved(incident(1, 0.9))])))
    assert said == [[], [], ["firing"], [], ["worse"], [], ["resolved"], []]


@pytest.mark.parametrize(
    ("after_s", "severity", "entity", "told"),
    [
        (600, 0.9, "svc/1", []),  # the same trouble again, just after
        (600, 0.99, "svc/2", ["firing"]),  # other trouble
        (4000, 0.9, "svc/1", ["firing"]),  # long after
        (600, 0.99, "svc/1", []),  # hardly worse
    ],
)
def test_same_cause_is_notified_once(after_s, severity, entity, told):
    """A new incident of the same cause soon after is not notified."""
    notifying = NotificationPolicy()
    first = incident(1, 0.9)
    notifying.step(START, [first])
    notifying.step(START + HOUR, [resolved(first)])
    again = incident(2, severity, START + HOUR + after_s * SECOND, entity=entity)
    assert kinds(notifying.step(again.start, [again])) == told


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


def test_a_silence_holds_back_until_it_ends():
    """A silence holds back incidents whose entities all match."""
    notifying = NotificationPolicy()
    notifying.add_silence(Silence("s", ("svc/*",), START, START + HOUR, "ann", "maintenance"))
    wide = replace(incident(3, 0.95), entities=("svc/3", "db/1"))
    over_by_then = incident(2, 0.95)
    told = notifying.step(START, [incident(1, 0.95), over_by_then, wide])
    assert [notice.incident.id for notice in told] == [wide.id]
    assert notifying.step(START + 1, [resolved(over_by_then)]) == []
    assert kinds(notifying.step(START + HOUR - 1, [])) == []
    (late,) = notifying.step(START + HOUR, [])
    assert late.incident.id == incident(1, 0.95).id
    assert notifying.step(START + HOUR + 1, []) == []


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (IncidentState.RESOLVED, []),
        (IncidentState.ACKNOWLEDGED, []),
        (IncidentState.OPEN, ["firing"]),
    ],
)
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_end_of_silence_notifies_only_open_incidents(state, told, early, restart):
    """When a silence ends, only incidents that are still open are notified."""
    notifying = NotificationPolicy()
    notifying.add_silence(Silence("s", ("*",), START, START + HOUR, "ann"))
    assert notifying.step(START, [incident(1, 0.95)]) == []
    if restart:
        before, notifying = notifying, NotificationPolicy()
        notifying.restore(before.state())
        assert notifying.restored_held == (incident(1, 0.95).id,)
    if early:
        notifying.end_silence("s")
    end = START + (HOUR // 2 if early else HOUR)
    assert kinds(notifying.step(end, [incident(1, 0.95, state=state)])) == told
    assert notifying.step(end + 1, []) == []


def test_a_silence_can_be_ended_early():
    """Ending a silence early notifies what it held back."""
    notifying = NotificationPolicy()
    notifying.add_silence(Silence("s", ("*",), START, START + DAY, "ann"))
    assert notifying.step(START, [incident(1, 0.95)]) == []
    notifying.end_silence("s")
    assert kinds(notifying.step(START + 1, [])) == ["firing"]


def test_acknowledged_incident_is_not_notified():
    """An acknowledged incident is only notified when it ends."""
    notifying = NotificationPolicy()
    notifying.step(START, [incident(1, 0.7)])
    mine = incident(1, 0.95, state=IncidentState.ACKNOWLEDGED)
    assert notifying.step(START + 1, [mine]) == []
    assert kinds(notifying.step(START + 2, [resolved(mine)])) == ["resolved"]
    assert notifying.step(START + 3, [incident(2, 0.95, state=IncidentState.ACKNOWLEDGED)]) == []


def test_merge_transfers_the_notice():
    """A merge transfers the notice, so the target is not notified again."""
    notifying = NotificationPolicy()
    notifying.step(START, [incident(2, 0.9)])
    whole = incident(1, 0.95)
    gone = replace(resolved(incident(2, 0.9)), merged_into=whole.id)
    assert notifying.step(START + 1, [gone, whole]) == []
    assert kinds(notifying.step(START + 2, [resolved(whole)])) == ["resolved"]
