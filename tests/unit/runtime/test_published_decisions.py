"""What people say of incidents and decide of actions: kept, told to everybody, in the right thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.builders.actions import action_of, recommendation_of
from tests.builders.series import START, anomaly_of
from tests.contracts.event_store_contract import CPU, ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots, FakeStore
from tests.unit.runtime.test_source_loop import FakeTickMetrics
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.published_decisions import PublishedDecisions, PublishedIncidentActions
from trimtab.engine.types import Incident, IncidentState, NoticeKind, Pause, Severity


def make_incident(number, *anomalies, **changed):
    """An open one of these anomalies."""
    plain = Incident(
        ulid(number), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, ("shop",),
        anomalies,
    )  # fmt: skip
    return replace(plain, **changed)


class IncidentActionsHarness:
    """A desk over two incidents that go on, and what a reader of the live stream gets."""

    def __init__(self, work):
        self.live, self.store, store = LiveState(), FakeIncidents(), FakeStore()
        for number in range(1, 5):
            store.save_anomaly(anomaly_of(CPU, ulid(number)))
        self.store.save_incidents([make_incident(11, ulid(1), ulid(2)), make_incident(12, ulid(3), ulid(4))])
        self.incident_service = Judging(store, self.store, FakeKeyValueStore())
        self.incident_service.resume()
        around = LoopContext(
            FakeClock(), store, FakeScoreLog(), FakeSnapshots(), self.live, FakeTickMetrics(), work
        )
        self.context = around
        self.actions = PublishedIncidentActions(around, self.incident_service)
        self.subscription = self.live.subscribe()

    async def events(self):
        """What was told so far."""
        self.subscription.end()
        return [(name, data["id"]) async for name, data in self.subscription]


@pytest.fixture
def room():
    """With one work thread, as the engine has."""
    with ThreadPoolExecutor(1) as work:
        yield IncidentActionsHarness(work)


@pytest.mark.parametrize(
    ("before", "word", "state"),
    [
        ((), "acknowledge", IncidentState.ACKNOWLEDGED),
        ((), "resolve", IncidentState.RESOLVED),
        (("resolve",), "reopen", IncidentState.ACKNOWLEDGED),
    ],
)
async def test_a_word_is_kept_and_told(room, before, word, state):
    """It is given back as it stands then, in the store, and an event for everybody."""
    for earlier in before:
        await getattr(room.actions, earlier)(ulid(11), "bob")
    said = await getattr(room.actions, word)(ulid(11), "ann", "mine")
    assert (said.id, said.state) == (ulid(11), state)
    assert "ann: mine" in said.note
    assert room.store.incident(ulid(11)) == said
    assert await room.events() == [("incident", ulid(11))] * (1 + len(before))


class FakeNotificationDelivery:
    """Takes notices."""

    def __init__(self):
        self.notices = []

    async def take(self, notices):
        self.notices += notices


async def test_who_heard_of_it_hears_at_once_that_it_is_over(room):
    """However seldom the sources tick: what a person resolves is told in the same moment."""
    room.context.notifications = heard = FakeNotificationDelivery()
    room.incident_service.incidents.time = START
    room.incident_service.notifying._told[ulid(11)] = {
        "fingerprint": "f", "time": START, "severity": 0.6, "level": "high", "over": None,
    }  # fmt: skip
    await room.actions.resolve(ulid(11), "ann")
    assert [(one.kind, one.incident.id) for one in heard.notices] == [(NoticeKind.RESOLVED, ulid(11))]
    await room.actions.resolve(ulid(12), "ann")
    assert len(heard.notices) == 1


async def test_incidents_are_merged_and_split(room):
    """The whole is given back, then the new part; each that changed is told."""
    whole = await room.actions.merge(ulid(12), ulid(11), "ann")
    assert (whole.id, set(whole.anomaly_ids)) == (ulid(11), {ulid(n) for n in range(1, 5)})
    assert room.store.by_id[ulid(12)].merged_into == ulid(11)
    part = await room.actions.split(ulid(11), [ulid(3)], "ann")
    assert part.anomaly_ids == (ulid(3),)
    assert room.store.incident(part.id) == part
    told = await room.events()
    assert told == [("incident", name) for name in (ulid(12), ulid(11), ulid(11), part.id)]


async def test_what_is_over_is_taken_up_for_it(room):
    """Somebody opens again what the engine has long forgotten."""
    room.store.save_incidents([make_incident(13, ulid(4), state=IncidentState.RESOLVED, end=START)])
    assert (await room.actions.reopen(ulid(13), "ann")).state is IncidentState.ACKNOWLEDGED
    assert ulid(13) in room.incident_service.incidents.cases


@pytest.mark.parametrize(
    ("word", "number", "error"),
    [("acknowledge", 99, NotFoundError), ("reopen", 11, ConflictError), ("acknowledge", 14, ConflictError)],
    ids=["unknown", "not over", "merged"],
)
async def test_what_cannot_be_said_changes_nothing(room, word, number, error):
    """Nothing is told and nothing is written."""
    room.store.by_id[ulid(14)] = make_incident(14, merged_into=ulid(11))
    before = dict(room.store.by_id)
    with pytest.raises(error):
        await getattr(room.actions, word)(ulid(number), "ann")
    assert room.store.by_id == before
    assert await room.events() == []


async def test_a_word_that_is_not_durable_is_not_acknowledged(room, monkeypatch):
    """P1: the error of the store reaches whoever spoke."""

    def refuse(_):
        raise StoreError("disk full")

    monkeypatch.setattr(room.store, "save_incidents", refuse)
    with pytest.raises(StoreError, match="disk full"):
        await room.actions.acknowledge(ulid(11), "ann")
    assert await room.events() == []


class FakeDecisions:
    """A desk that gives back what it was asked for, or refuses."""

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
            return recommendation_of("R1") if name in {"approve", "dismiss", "schedule"} else action_of("A1")

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
    """It goes to the desk below as it came, and to every reader once it is taken."""
    live, below = LiveState(), FakeDecisions()
    reader = live.subscribe()
    given = await getattr(PublishedDecisions(below, live), name)(*arguments)
    assert below.calls == [(name, *arguments)]
    reader.end()
    ((told, data),) = [one async for one in reader]
    assert told == event
    assert data.get("id", given) == getattr(given, "id", given)


@pytest.mark.parametrize(("name", "arguments", "event"), CALLS)
async def test_what_is_refused_is_no_event(name, arguments, event):  # noqa: ARG001 - the table's
    """Nobody is told of what was not done."""
    live, below = LiveState(), FakeDecisions()
    below.refusal_reason = "everything is paused"
    reader = live.subscribe()
    with pytest.raises(RefusedError):
        await getattr(PublishedDecisions(below, live), name)(*arguments)
    reader.end()
    assert [one async for one in reader] == []
