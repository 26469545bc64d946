"""Operator decisions on incidents and actions: saved, published, run in the worker thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import START, anomaly_of
from tests.contracts.event_store_contract import CPU, ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots, FakeStore
from tests.unit.runtime.test_source_loop import FakeTickMetrics
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.published_decisions import PublishedDecisions, PublishedIncidentActions
from trimtab.engine.types import Incident, IncidentState, NoticeKind, Pause, Severity


def make_incident(number, *anomalies, **changed):
    """Return an open incident with these anomalies."""
    plain = Incident(
        ulid(number), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, ("shop",),
        anomalies,
    )  # fmt: skip
    return replace(plain, **changed)


class IncidentActionsHarness:
    """Incident actions over two open incidents, with a subscription to the live events."""

    def __init__(self, work):
        self.live, self.store, store = LiveState(), FakeIncidents(), FakeStore()
        for number in range(1, 5):
            store.save_anomaly(anomaly_of(CPU, ulid(number)))
        self.store.save_incidents([make_incident(11, ulid(1), ulid(2)), make_incident(12, ulid(3), ulid(4))])
        self.incident_service = IncidentService(store, self.store, FakeKeyValueStore())
        self.incident_service.resume()
        context = LoopContext(
            FakeClock(), store, FakeScoreLog(), FakeSnapshots(), self.live, FakeTickMetrics(), work
        )
        self.context = context
        self.actions = PublishedIncidentActions(context, self.incident_service)
        self.subscription = self.live.subscribe()

    async def events(self):
        """Return the published events so far."""
        self.subscription.end()
        return [(name, data["id"]) async for name, data in self.subscription]


@pytest.fixture
def harness():
    """Harness with one worker thread, as in the engine."""
    with ThreadPoolExecutor(1) as work:
        yield IncidentActionsHarness(work)


@pytest.mark.parametrize(
    ("before", "operator_action", "state"),
    [
        ((), "acknowledge", IncidentState.ACKNOWLEDGED),
        ((), "resolve", IncidentState.RESOLVED),
        (("resolve",), "reopen", IncidentState.ACKNOWLEDGED),
    ],
)
async def test_an_operator_action_is_saved_and_published(harness, before, operator_action, state):
    """The changed incident is returned, saved and published."""
    for earlier in before:
        await getattr(harness.actions, earlier)(ulid(11), "bob")
    changed = await getattr(harness.actions, operator_action)(ulid(11), "ann", "mine")
    assert (changed.id, changed.state) == (ulid(11), state)
    assert "ann: mine" in changed.note
    assert harness.store.incident(ulid(11)) == changed
    assert await harness.events() == [("incident", ulid(11))] * (1 + len(before))


class FakeNotificationDelivery:
    """Collects notifications."""

    def __init__(self):
        self.notices = []

    async def enqueue(self, notices):
        self.notices += notices


async def test_resolving_a_notified_incident_sends_a_notification(harness):
    """Resolving an incident sends a notification at once, but only if its start was notified."""
    harness.context.notifications = delivery = FakeNotificationDelivery()
    harness.incident_service.correlator.time = START
    harness.incident_service.notification_policy._notified[ulid(11)] = {
        "fingerprint": "f", "time": START, "severity": 0.6, "level": "high", "over": None,
    }  # fmt: skip
    await harness.actions.resolve(ulid(11), "ann")
    assert [(event.kind, event.incident.id) for event in delivery.notices] == [
        (NoticeKind.RESOLVED, ulid(11))
    ]
    await harness.actions.resolve(ulid(12), "ann")
    assert len(delivery.notices) == 1


async def test_incidents_are_merged_and_split(harness):
    """A merge returns the merged incident and a split the new one; each changed incident is published."""
    merged = await harness.actions.merge(ulid(12), ulid(11), "ann")
    assert (merged.id, set(merged.anomaly_ids)) == (ulid(11), {ulid(n) for n in range(1, 5)})
    assert harness.store.by_id[ulid(12)].merged_into == ulid(11)
    split_off = await harness.actions.split(ulid(11), [ulid(3)], "ann")
    assert split_off.anomaly_ids == (ulid(3),)
    assert harness.store.incident(split_off.id) == split_off
    event_name = await harness.events()
    assert event_name == [("incident", name) for name in (ulid(12), ulid(11), ulid(11), split_off.id)]


async def test_a_resolved_incident_can_be_reopened(harness):
    """An incident the service no longer tracks is loaded and reopened."""
    harness.store.save_incidents([make_incident(13, ulid(4), state=IncidentState.RESOLVED, end=START)])
    assert (await harness.actions.reopen(ulid(13), "ann")).state is IncidentState.ACKNOWLEDGED
    assert ulid(13) in harness.incident_service.correlator.drafts


@pytest.mark.parametrize(
    ("operator_action", "number", "error"),
    [("acknowledge", 99, NotFoundError), ("reopen", 11, ConflictError), ("acknowledge", 14, ConflictError)],
    ids=["unknown", "not over", "merged"],
)
async def test_a_refused_operator_action_changes_nothing(harness, operator_action, number, error):
    """A refused action saves and publishes nothing."""
    harness.store.by_id[ulid(14)] = make_incident(14, merged_into=ulid(11))
    before = dict(harness.store.by_id)
    with pytest.raises(error):
        await getattr(harness.actions, operator_action)(ulid(number), "ann")
    assert harness.store.by_id == before
    assert await harness.events() == []


async def test_an_operator_action_that_cannot_be_saved_raises(harness, monkeypatch):
    """P1: the error of the store reaches the caller and nothing is published."""

    def refuse(_):
        raise StoreError("disk full")

    monkeypatch.setattr(harness.store, "save_incidents", refuse)
    with pytest.raises(StoreError, match="disk full"):
        await harness.actions.acknowledge(ulid(11), "ann")
    assert await harness.events() == []


class FakeDecisions:
    """Operator decisions that return a fixed result or refuse."""

    def __init__(self):
        self.refusal_reason = None
        self.calls = []

    def __getattr__(self, name):
        async def decide(*arguments):
            self.calls.append((name, *arguments))
            if self.refusal_reason:
                raise RefusedError(self.refusal_reason)
            if name in {"pause", "resume"}:
                return Pause(on=name == "pause", by=arguments[0])
            if name in {"approve", "dismiss", "schedule"}:
                return make_recommendation("R1")
            return make_action("A1")

        return decide


CALLS = [
    ("approve", ("R1", "ann"), "recommendation"),
    ("dismiss", ("R1", "ann", "no"), "recommendation"),
    ("schedule", ("R1", "ann", START), "recommendation"),
    ("apply", ("R1", "ann", "k"), "action"),
    ("roll_back", ("A1", "ann", "k"), "action"),
    ("run", ("redis", "c", "flush", "ann", "k"), "action"),
    ("set_knob", ("redis", "c", "hz", 1, 2, "ann", "k"), "action"),
    ("pause", ("ann", "why"), "pause"),
    ("resume", ("ann", "why"), "pause"),
]


@pytest.mark.parametrize(("name", "arguments", "event"), CALLS)
async def test_each_decision_is_an_event(name, arguments, event):
    """A decision is passed on unchanged, and its result is published."""
    live, inner = LiveState(), FakeDecisions()
    reader = live.subscribe()
    returned = await getattr(PublishedDecisions(inner, live), name)(*arguments)
    assert inner.calls == [(name, *arguments)]
    reader.end()
    ((event_name, data),) = [event async for event in reader]
    assert event_name == event
    assert data.get("id", returned) == getattr(returned, "id", returned)


@pytest.mark.parametrize(("name", "arguments", "event"), CALLS)
async def test_a_refused_decision_is_no_event(name, arguments, event):  # noqa: ARG001 - shares the table above
    """A refused decision publishes nothing."""
    live, inner = LiveState(), FakeDecisions()
    inner.refusal_reason = "everything is paused"
    reader = live.subscribe()
    with pytest.raises(RefusedError):
        await getattr(PublishedDecisions(inner, live), name)(*arguments)
    reader.end()
    assert [event async for event in reader] == []
