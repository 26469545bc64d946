"""States of an action, and the state that follows from reading its knob back."""

import itertools

import pytest

from tests.builders.action_stack import open_ledger
from tests.builders.actions import EFFECT, make_action
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions.journal import (
    TRANSITIONS,
    Journal,
    check_transition,
    is_at_value,
    is_manual_undo,
    is_same_value,
    lock_reason,
    state_from_reading,
)
from trimtab.engine.errors import ConflictError
from trimtab.engine.types import ActionState, KnobReading, Lasts, Outcome

S = ActionState
ALLOWED = {
    (S.PROPOSED, S.EXECUTING), (S.PROPOSED, S.FAILED), (S.PROPOSED, S.REFUSED),
    (S.EXECUTING, S.VERIFYING), (S.EXECUTING, S.FAILED), (S.EXECUTING, S.UNKNOWN),
    (S.VERIFYING, S.KEPT), (S.VERIFYING, S.ROLLED_BACK), (S.VERIFYING, S.INCONCLUSIVE),
    (S.KEPT, S.ROLLED_BACK), (S.INCONCLUSIVE, S.ROLLED_BACK), (S.UNKNOWN, S.ROLLED_BACK),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)))
def test_transitions_follow_the_table(before, after):
    """Each pair of states is allowed exactly when the table lists it."""
    action = make_action(ulid(1), state=before)
    if (before, after) in ALLOWED:
        check_transition(action, after)
    else:
        with pytest.raises(ConflictError, match=f"is {before} and cannot become {after}"):
            check_transition(action, after)


def test_every_state_is_in_the_table():
    """Every state is in the table, and a final state can only become rolled back."""
    assert set(TRANSITIONS) == set(S)
    assert all(TRANSITIONS[state] <= {S.ROLLED_BACK} for state in S if state.is_final)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1, True), (1, 1.0, True), (0.1 + 0.2, 0.3, True), (1, 2, False), (1e15, 1e15 + 1, True),
        (1e15, 1e15 + 1e7, False), (True, True, True), (True, 1, False), (0, False, False), ("a", "a", True),
        ("1", 1, False), (None, 0, False), (None, None, True), (None, "", False), (float("inf"), 1, False),
        (float("inf"), float("inf"), True), (float("nan"), float("nan"), False),
    ],
)  # fmt: skip
def test_is_same_value(one, other, equal):
    """Numbers are equal up to rounding, other values exactly; true is not 1 and None is only None."""
    assert is_same_value(one, other) is equal
    assert is_same_value(other, one) is equal


@pytest.mark.parametrize(
    ("before", "after", "value", "set_here", "state"),
    [
        (100, 125, 125, True, S.VERIFYING),
        (100, 125, 100, True, S.FAILED),
        (100, 125, 130, True, S.UNKNOWN),  # somebody else's value
        (100, 125, None, False, S.UNKNOWN),
        (125, None, 100, False, S.VERIFYING),  # back to the default
        (125, None, 125, True, S.FAILED),
        (125, None, 125, False, S.VERIFYING),  # the default happens to be the same
        (125, None, 90, True, S.UNKNOWN),
        (None, 125, 100, False, S.FAILED),  # it is unset
        (None, 125, 100, True, S.UNKNOWN),
    ],
)
def test_state_from_reading(before, after, value, set_here, state):
    """A reading shows whether an interrupted change was applied, not applied, or neither."""
    reading = KnobReading(value, set_here, Lasts.UNTIL_RESTART)
    assert state_from_reading(make_action(ulid(1), before=before, after=after), reading) is state
    assert is_at_value(reading, after) is (state is S.VERIFYING)


FAILED_UNDO = make_action(ulid(2), state=S.FAILED, undoes=ulid(1))
UNKNOWN = make_action(ulid(3), state=S.UNKNOWN)


@pytest.mark.parametrize(
    ("newest_first", "reason"),
    [
        ([], None),
        ([make_action(ulid(1), state=S.KEPT)], None),
        ([make_action(ulid(1), state=S.FAILED)], None),  # nothing was changed
        ([FAILED_UNDO], "could not be rolled back"),
        ([UNKNOWN], "it is unknown whether"),
        (
            [make_action(ulid(9), state=S.KEPT), UNKNOWN],
            "it is unknown whether",
        ),  # a change by the engine does not unlock it
        ([make_action(ulid(9), state=S.KEPT, by="ann"), UNKNOWN], None),
        ([make_action(ulid(9), state=S.VERIFYING, by="ann"), UNKNOWN], "it is unknown whether"),
        (
            [make_action(ulid(9), state=S.KEPT, by="ann", undoes=ulid(1)), FAILED_UNDO],
            "could not be rolled back",
        ),
        ([UNKNOWN, make_action(ulid(9), state=S.KEPT, by="ann")], "it is unknown whether"),
    ],
)
def test_a_target_is_locked_until_an_operator_sets_it(newest_first, reason):
    """A failed undo or an unknown outcome locks the target until an operator's change is kept."""
    lock = lock_reason(newest_first)
    assert (lock is None) if reason is None else (reason in lock)


@pytest.mark.parametrize(
    ("undoes", "by", "passes"),
    [(ulid(1), "ann", True), (ulid(1), "trimtab", False), (None, "ann", False), (None, "trimtab", False)],
)
def test_is_manual_undo(undoes, by, passes):
    """Only an undo by an operator counts as manual."""
    assert is_manual_undo(make_action(ulid(2), undoes=undoes, by=by)) is passes


async def test_each_transition_is_stored_with_its_reading(tmp_path):
    """Each transition stores reading, message and effect; a forbidden one is refused before the ledger."""
    with open_ledger(tmp_path) as ledger:
        journal = Journal(ledger, ledger.clock)
        proposed = await journal.propose(make_action(ulid(1), told="why"))
        assert proposed == ledger.action(ulid(1))
        ledger.clock.tick(1)
        executing = await journal.mark_executing(proposed, KnobReading(100, True, Lasts.UNTIL_RESTART))
        assert (executing.started, executing.set_before) == (ledger.clock.now(), True)
        verifying = await journal.mark_verifying(executing, "lasts")
        assert verifying.told == "why; lasts"
        kept = await journal.end(verifying, S.KEPT, "no harm seen", EFFECT, actor="ann")
        assert kept.outcome == Outcome(S.KEPT, "no harm seen", EFFECT)
        assert (kept, kept.ended) == (ledger.action(ulid(1)), ledger.clock.now())
        with pytest.raises(ConflictError, match="is kept and cannot become executing"):
            await journal.mark_executing(kept, None)
        other = await journal.mark_executing(await journal.propose(make_action(ulid(2))), None)
        failed = await journal.end(other, S.FAILED, "no")
        assert failed.outcome == Outcome(S.FAILED, "no", None)
        rows = ledger.audit_rows()
    first_words, second_words = [row.what for row in rows[:4]], [row.what for row in rows[4:]]
    assert first_words == ["proposed", "executing", "verifying", "kept"]
    assert second_words == ["proposed", "executing", "failed"]
    assert rows[1].details.items() >= {"reading": 100, "set_before": True}.items()
    assert (rows[3].actor, rows[3].details["low"], rows[3].details["words"]) == ("ann", 0.8, "no harm seen")
    assert "reading" not in rows[5].details
    assert "low" not in rows[6].details
