"""Guard simulation: true time, a wall clock that jumps, and an engine that restarts.

`LimitOracle` records the true time of every started action and fails when a limit is exceeded. It is written
from the specification and shares no code with the guard.
"""

import itertools
import json
from collections import Counter
from dataclasses import dataclass, replace

from tests.builders.guard_requests import GOOD_INPUTS, NO_MASS_ANOMALY, SPEED, make_proposal
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.situation import GuardVerdict
from trimtab.engine.actions.guard.situation_builder import (
    SituationBuilder,
    TargetObservation,
    manual_proposal,
)
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import Action, ActionState, KnobReading, Lasts, Mode, Pause, Recommendation

TARGETS = tuple(f"t{i}" for i in range(3))
TOTAL_TARGETS = 20
LIMITS = Guardrails()
DENIED = 77.0
KNOB = replace(SPEED, low=10.0, high=1000.0, denied=(DENIED,))
HOUR, DAY = 3600.0, 86_400.0


@dataclass
class StartedAction:
    """A started action; `t` in true seconds."""

    t: float
    id: str
    target: str
    before: float
    after: float
    person: bool
    undo: bool
    is_final: bool = False
    failed: bool = False

    @property
    def up(self):
        return self.after > self.before


class LimitOracle:
    """Records started actions and fails when a limit is exceeded."""

    def __init__(self):
        self.done: list[StartedAction] = []

    def within(self, t, seconds):
        """Return started changes, without undos, of the last `seconds`."""
        return [d for d in self.done if not d.undo and t - d.t < seconds]

    def open(self):
        return [d for d in self.done if not d.is_final and not d.undo]

    def check(self, new: StartedAction):
        """Fail if `new` exceeds a limit."""
        if new.undo:
            return
        here = [d for d in self.done if d.target == new.target]
        assert new.target in TARGETS
        assert abs(new.after - new.before) <= 0.25 * new.before * (1 + 1e-6), "step"
        assert abs(new.after - new.before) >= 0.1 * new.before * (1 - 1e-6), "dead band"
        assert 10 <= new.after <= 1000, "bounds"
        assert new.after != DENIED, "denied"
        assert not any(d.target == new.target for d in self.open()), "one at a time per target"
        assert len(self.open()) < 2, "two in all"
        assert len(self.within(new.t, HOUR)) < 6, "6 an hour"
        assert len(self.within(new.t, DAY)) < 20, "20 a day"
        assert len({d.target for d in self.within(new.t, 600)} | {new.target}) <= 2, "10 % of 20 targets"
        for d in here:
            assert new.t - d.t >= (3600 if d.undo else 900), "cooldown"
        self.check_turns(new, [d for d in here if not d.failed])

    def check_turns(self, new: StartedAction, here: list[StartedAction]):
        if not here:
            return
        last = here[-1]
        turn = last.up != new.up
        if turn and not new.person:
            assert new.t - last.t >= 1800, "reversal"
        turns = sum(a.up != b.up and new.t - b.t < 6 * HOUR for a, b in itertools.pairwise(here))
        assert turns + (turn and new.t - last.t < 6 * HOUR) < 2, "lock"


class GuardSimulation:
    """Simulated engine with its store, clocks, targets and faults."""

    def __init__(self):
        self.t, self.offset, self.oracle, self.count = 0.0, 0.0, LimitOracle(), Counter()
        self.values = dict.fromkeys(TARGETS, 100.0)
        self.modes = dict.fromkeys(TARGETS, Mode.AUTO)
        self.wanted: dict[str, float] = {}
        self.pending: list[Recommendation] = []
        self.person_ids: set[str] = set()
        self.ledger: dict[str, Action] = {}
        self.pause, self.source_up, self.mass = Pause(False), True, NO_MASS_ANOMALY
        self.evaluations: list[tuple[float, frozenset[tuple[str, bool]]]] = []
        self.stored_state = "{}"
        self.start_engine()

    @property
    def now(self):
        return START + round((self.t + self.offset) * SECOND)

    def start_engine(self):
        """Start a process with the state that was stored last."""
        self.situation_builder, self.started_s = SituationBuilder(LIMITS), self.t
        state = json.loads(self.stored_state)
        if state:
            self.situation_builder.restore(state)
        self.pending = []
        self.tick()

    def tick(self):
        self.situation_builder.advance(round((self.t - self.started_s + 1000) * SECOND))

    def new_id(self):
        self.count["ids"] += 1
        return f"R{self.count['ids']:06d}"

    def evaluate(self):
        """Run one evaluation and store the state."""
        self.tick()
        self.pending = [self.proposal(target, factor) for target, factor in self.wanted.items()]
        self.situation_builder.record_evaluation(self.pending)
        self.evaluations.append((self.t, frozenset((p.target, p.after > p.before) for p in self.pending)))
        self.stored_state = json.dumps(self.situation_builder.state())

    def proposal(self, target, factor):
        before = self.values.get(target, 100.0)
        after, way = before * factor, "up" if factor > 1 else "down"
        return make_proposal(
            id=self.new_id(), created=self.now, expires=self.now + 3600 * SECOND, target=target,
            subject="speed", before=before, after=after, fingerprint=f"{target}/{way}",
        )  # fmt: skip

    def is_allowed(self, proposal, person=False, undoes=None):
        """Return whether the guard allows the proposal; count the decision."""
        self.tick()
        value = self.values.get(proposal.target, 100.0)
        live = TargetObservation(
            mode=self.modes.get(proposal.target, Mode.AUTO), targets=TARGETS, total_targets=TOTAL_TARGETS,
            knob=KNOB, reading=KnobReading(value, True, Lasts.UNKNOWN), mass=self.mass,
            inputs=replace(GOOD_INPUTS, source_up=self.source_up),
        )  # fmt: skip
        newest = sorted(self.ledger.values(), key=lambda action: action.id)[-300:]
        situation = self.situation_builder.build(proposal, self.now, self.pause, newest, live, undoes)
        decision = decide(proposal, situation, LIMITS, person)
        self.count[f"{decision.verdict} {decision.guard}"] += 1
        return decision.verdict is GuardVerdict.ALLOW

    def reserve(self, proposal, person):
        """Journal a proposed action."""
        self.person_ids |= {proposal.id} if person else set()
        self.ledger[proposal.id] = Action(
            id=proposal.id, key=proposal.id, recommendation_id=proposal.id, tool="redis",
            target=proposal.target, subject="speed", is_action=False, before=proposal.before,
            after=proposal.after, set_before=True, state=ActionState.PROPOSED, mode=Mode.AUTO, by="",
            created=self.now,
        )  # fmt: skip

    def send(self, action, proposal, undoes=None):
        """Check again, then start the action; a refused action fails."""
        person = action.id in self.person_ids
        if not self.is_allowed(proposal, person, undoes):
            self.ledger[action.id] = replace(action, state=ActionState.FAILED, ended=self.now)
            return False
        done = StartedAction(
            self.t, action.id, action.target, action.before, action.after, person, undoes is not None
        )
        self.check_around(done)
        self.oracle.check(done)
        self.oracle.done.append(done)
        self.values[action.target] = action.after
        self.ledger[action.id] = replace(action, state=ActionState.VERIFYING, started=self.now)
        self.count["undone" if undoes else "started"] += 1
        return True

    def check_around(self, done):
        """Check the conditions of every start."""
        assert not self.pause.on, "paused"
        if done.undo:
            return
        assert self.source_up, "freshness"
        assert self.mass is NO_MASS_ANOMALY, "mass breaker"
        if done.person:
            return
        assert self.modes[done.target] is Mode.AUTO, "mode"
        assert self.t - self.started_s >= 300, "start-up"
        evaluated = [(t, (done.target, done.up) in what) for t, what in self.evaluations]
        first = max((i + 1 for i, (_, is_in) in enumerate(evaluated) if not is_in), default=0)
        row = evaluated[first:]
        assert len(row) >= 3, "3 evaluations in a row"
        assert self.t - row[0][0] >= 180, "3 minutes"
        assert self.t - row[-1][0] <= 300, "plan"
        if not done.up:
            assert self.t - row[0][0] >= 300, "hold"

    def finish(self, action, state):
        """End a running action in a state."""
        done = next(d for d in self.oracle.done if d.id == action.id)
        done.is_final = True
        if state is ActionState.FAILED:
            done.failed = True
            self.values[action.target] = action.before
        self.ledger[action.id] = replace(action, state=state, ended=self.now)

    def roll_back(self, action):
        """Roll back an action that failed verification."""
        proposal = manual_proposal(
            "redis", action.target, "speed", action.after, action.before, proposal_id=self.new_id()
        )
        if not self.is_allowed(proposal, undoes=action):
            return
        self.reserve(proposal, person=False)
        undo = replace(self.ledger[proposal.id], undoes=action.id)
        if self.send(undo, proposal, action):
            self.finish(self.ledger[undo.id], ActionState.KEPT)
            done = next(d for d in self.oracle.done if d.id == action.id)
            done.is_final = True
            self.ledger[action.id] = replace(action, state=ActionState.ROLLED_BACK, ended=self.now)
