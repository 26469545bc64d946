"""Contract of every action ledger; subclasses provide the fixture `url`."""

import json
from dataclasses import replace

import pytest

from tests.builders.actions import EFFECT, make_action, make_recommendation
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ids_of, ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.audit.audit_export import export_audit, verify_audit
from trimtab.engine.errors import ConflictError, LockedError, NotFoundError
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import ActionState, Mode, Outcome, Pause, RecommendationState, Risk, Silence

PENDING, APPROVED = RecommendationState.PENDING, RecommendationState.APPROVED


class ActionLedgerContract:
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def store(self, url, clock):
        opened = EventStore(url, clock.now, epoch=1).open()
        yield opened
        opened.close()

    @pytest.fixture
    def ledger(self, store, tmp_path):
        return ActionLedger(store.fenced, tmp_path / ANCHOR_FILE)

    def test_a_recommendation_is_read_as_saved(self, ledger):
        """A stored recommendation has every field, with NaN for unknown; saving it again updates it."""
        first = make_recommendation(
            ulid(1),
            incident_id="i1",
            pattern="cache_thrash",
            risk=Risk.HIGH,
            scheduled=START + 5,
            before=None,
        )
        ledger.save_recommendation(first, "recommended", "trimtab")
        assert ledger.recommendation(ulid(1)) == first
        unknown = replace(first, effect=replace(EFFECT, before=float("nan")), state=APPROVED, approver="ann")
        ledger.save_recommendation(unknown, "approved", "ann", expected=PENDING)
        stored = ledger.recommendation(ulid(1))
        assert stored.effect.before != stored.effect.before
        assert (stored.state, stored.approver) == (APPROVED, "ann")
        assert [(row.what, row.actor, row.details["from"]) for row in ledger.audit_rows()] == [
            ("recommended", "trimtab", None),
            ("approved", "ann", "pending"),
        ]

    def test_only_one_decision_succeeds(self, ledger):
        """A decision with a wrong expected state raises ConflictError and writes nothing."""
        first = make_recommendation(ulid(1))
        ledger.save_recommendation(first, "recommended", "trimtab")
        ledger.save_recommendation(replace(first, state=APPROVED), "approved", "ann", expected=PENDING)
        with pytest.raises(ConflictError, match="is approved, expected pending"):
            ledger.save_recommendation(first, "dismissed", "bob", expected=PENDING)
        with pytest.raises(ConflictError, match="is not stored, expected pending"):
            ledger.save_recommendation(replace(first, id=ulid(2)), "approved", "bob", expected=PENDING)
        assert ids_of(ledger.recommendations(state=APPROVED)) == [ulid(1)]
        assert len(ledger.audit_rows()) == 2

    def test_an_action_is_read_as_saved(self, ledger):
        """Values of an action keep their types: true is not 1, 1.0 is not 1, text stays text."""
        for number, (before, after) in enumerate(
            [(True, 1), (1.0, 2), ("1", None), (1 << 62, "allkeys-lru")]
        ):
            action = make_action(ulid(number), before=before, after=after, time_scale=0.1)
            ended = replace(action, outcome=Outcome(ActionState.KEPT, "no harm seen", EFFECT), ended=START)
            ledger.propose(action, "proposed", "trimtab")
            ledger.transition(ended, ActionState.PROPOSED, "kept", "trimtab")
            read = ledger.action(ulid(number))
            assert read == ended
            assert (type(read.before), type(read.after)) == (type(before), type(after))

    def test_an_action_key_is_used_once(self, ledger):
        """A second proposal with the same key returns the first action and writes nothing."""
        first = ledger.propose(make_action(ulid(1), key="k"), "proposed", "trimtab")
        assert ledger.propose(make_action(ulid(2), key="k", after=999), "proposed", "trimtab") == first
        assert ids_of(ledger.actions()) == [ulid(1)]
        assert len(ledger.audit_rows()) == 1

    def test_a_transition_needs_the_stored_state(self, ledger):
        """A second transition from the same state is refused; an unknown action is not found."""
        action = ledger.propose(make_action(ulid(1)), "proposed", "trimtab")
        executing = replace(action, state=ActionState.EXECUTING, started=START)
        ledger.transition(executing, ActionState.PROPOSED, "executing", "trimtab", {"reading": 100})
        with pytest.raises(ConflictError, match="is executing, expected proposed"):
            ledger.transition(executing, ActionState.PROPOSED, "executing", "trimtab")
        with pytest.raises(NotFoundError, match="no action"):
            ledger.transition(replace(action, id=ulid(9)), ActionState.PROPOSED, "executing", "trimtab")
        rows = ledger.audit_rows(subject=ulid(1))
        assert [(row.seq, row.what) for row in rows] == [(1, "proposed"), (2, "executing")]
        assert (
            rows[1].details.items()
            >= {"reading": 100, "before": 100, "after": 125, "to": "executing"}.items()
        )

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [3, 2, 1]),
            ({"state": ActionState.KEPT}, [1]),
            ({"unfinished": True}, [3, 2]),
            ({"recommendation_id": "r1"}, [2]),
            ({"tool": "postgresql"}, [3]),
            ({"target": "cache-1"}, [2, 1]),
            ({"since": START + 10}, [3, 2]),
            ({"after": ulid(3), "limit": 1}, [2]),
        ],
    )
    def test_actions_are_filtered(self, ledger, filters, expected):
        """Actions are filtered by each parameter and paged, newest first."""
        kept_action = make_action(ulid(1), state=ActionState.KEPT)
        approved = make_action(ulid(2), created=START + 10, recommendation_id="r1")
        other = make_action(ulid(3), created=START + 20, tool="postgresql", target="db", mode=Mode.APPROVE)
        for action in (kept_action, approved, other):
            ledger.propose(action, "proposed", "trimtab")
        assert ids_of(ledger.actions(**filters)) == [ulid(number) for number in expected]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [2, 1]),
            ({"incident_id": "i1"}, [2]),
            ({"state": PENDING, "tool": "redis", "target": "cache-1"}, [2, 1]),
            ({"after": ulid(2)}, [1]),
        ],
    )
    def test_recommendations_are_filtered(self, ledger, filters, expected):
        """Recommendations are filtered by each parameter and paged, newest first."""
        for recommendation in (make_recommendation(ulid(1)), make_recommendation(ulid(2), incident_id="i1")):
            ledger.save_recommendation(recommendation, "recommended", "trimtab")
        assert ids_of(ledger.recommendations(**filters)) == [ulid(number) for number in expected]

    def test_an_unknown_id_is_not_found(self, ledger):
        """NotFoundError names the type and the id."""
        with pytest.raises(NotFoundError, match="no recommendation has the id 'x'"):
            ledger.recommendation("x")
        with pytest.raises(NotFoundError, match="no action has the id 'x'"):
            ledger.action("x")

    def test_the_pause_is_stored(self, ledger, store, tmp_path):
        """The pause is off at first; a change is visible to another ledger on the same store immediately."""
        assert ledger.pause() == Pause(on=False)
        pause = Pause(on=True, by="ann", since=START, reason="a release")
        ledger.set_pause(pause)
        assert ActionLedger(store.fenced, tmp_path / ANCHOR_FILE).pause() == pause
        ledger.set_pause(Pause(on=False, by="ann", since=START + 1))
        assert not ledger.pause().on
        assert [row.what for row in ledger.audit_rows(subject="pause")] == ["paused", "resumed"]

    def test_the_audit_is_a_chain(self, ledger, clock, tmp_path):
        """Audit rows have consecutive numbers and link to the previous row; the anchor file has the head."""
        assert verify_audit(ledger) == []
        for number in range(5):
            clock.tick(1)
            ledger.append_audit("looked", "cache-1", "ann", {"number": number, "ratio": float("nan")})
        rows = ledger.audit_rows()
        assert [(row.seq, row.time) for row in rows] == [(i, START + i * SECOND) for i in range(1, 6)]
        assert rows[0].details == {"number": 0, "ratio": None}
        assert [row.previous for row in rows] == ["", *(row.hash for row in rows[:-1])]
        assert ledger.audit_heads().folder == ledger.audit_heads().store == (5, rows[-1].hash)
        assert verify_audit(ledger) == []
        assert (tmp_path / ANCHOR_FILE).stat().st_mode & 0o777 == 0o600
        exported = [json.loads(line) for line in export_audit(ledger)]
        assert [line["hash"] for line in exported] == [row.hash for row in rows]

    def test_secrets_are_redacted(self, ledger):
        """Secrets in audit rows and in texts of tools and operators are redacted."""
        secret = "http://bob:hunter2@cache/?token=hunter2"
        ledger.save_recommendation(
            make_recommendation(ulid(1), command=secret, evidence=(secret,)), "r", secret
        )
        action = ledger.propose(make_action(ulid(1), told=secret), "proposed", "trimtab")
        failed = replace(action, told=secret, outcome=Outcome(ActionState.FAILED, secret))
        failed_action = ledger.transition(
            failed, ActionState.PROPOSED, "failed", "trimtab", {"why": secret, "password": "hunter2"}
        )
        ledger.append_audit(
            "asked", secret, "ann", {"bearer_token": "hunter2", "header": "Bearer hunter2hunter2"}
        )
        records = [
            failed_action,
            ledger.action(ulid(1)),
            ledger.recommendation(ulid(1)),
            *ledger.audit_rows(),
        ]
        assert "hunter2" not in repr(records)
        assert verify_audit(ledger) == []

    def test_silences_are_stored_ended_and_audited(self, ledger, clock):
        """Silences are listed newest first and for 30 days after their end; every change is audited."""
        first = Silence(ulid(1), ("redis/*",), START, START + 60 * SECOND, "ann", "moving it")
        future = Silence(ulid(2), ("web", "api"), START + 30 * SECOND, START + 90 * SECOND, "bob")
        ledger.add_silence(first)
        ledger.add_silence(future)
        assert ledger.silences() == [future, first]
        clock.tick(10)
        ended = ledger.end_silence(ulid(2), "cid")
        assert (ended.begin, ended.until) == (START + 10 * SECOND, START + 10 * SECOND)
        assert ledger.silences() == [ended, first]
        with pytest.raises(ConflictError, match="already ended"):
            ledger.end_silence(ulid(2), "cid")
        with pytest.raises(NotFoundError):
            ledger.end_silence(ulid(3), "cid")
        audited = [(row.what, row.subject, row.actor) for row in ledger.audit_rows()]
        assert audited == [
            ("silenced", ulid(1), "ann"), ("silenced", ulid(2), "bob"), ("silence ended", ulid(2), "cid"),
        ]  # fmt: skip
        assert ledger.audit_rows()[0].details["entities"] == "redis/*"
        clock.tick(31 * 86_400)
        last = replace(first, id=ulid(4), until=clock.now() + SECOND)
        ledger.add_silence(last)
        assert ledger.silences() == [last]
        assert verify_audit(ledger) == []

    def test_a_stale_engine_changes_nothing(self, ledger, url, clock, tmp_path):
        """After a takeover, every write of the older engine raises LockedError."""
        action = ledger.propose(make_action(ulid(1)), "proposed", "trimtab")
        newer = EventStore(url, clock.now, epoch=2).open()
        refused = [
            lambda: ledger.propose(make_action(ulid(2)), "proposed", "trimtab"),
            lambda: ledger.transition(
                replace(action, state=ActionState.EXECUTING), ActionState.PROPOSED, "executing", "trimtab"
            ),
            lambda: ledger.save_recommendation(make_recommendation(ulid(1)), "recommended", "trimtab"),
            lambda: ledger.append_audit("looked", "x", "ann"),
            lambda: ledger.set_pause(Pause(on=True)),
        ]
        for write in refused:
            with pytest.raises(LockedError, match="taken over by another engine"):
                write()
        newer_ledger = ActionLedger(newer.fenced, tmp_path / ANCHOR_FILE)
        newer_ledger.append_audit("looked", "x", "ann")
        assert [(row.seq, row.epoch) for row in newer_ledger.audit_rows()] == [(1, 1), (2, 2)]
        assert newer_ledger.action(ulid(1)) == action
        assert verify_audit(newer_ledger) == []
        newer.close()
