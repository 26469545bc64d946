"""State machine for the guard simulation; hypothesis chooses the events."""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.builders.guard_requests import NO_MASS_ANOMALY
from tests.simulations.guard_world import TARGETS, TOTAL_TARGETS, GuardSimulation
from trimtab.engine.actions.guard.situation import MassAnomalyStatus
from trimtab.engine.types import ActionState, Mode, Pause

MASS = MassAnomalyStatus(40, 100, 0, TOTAL_TARGETS)
FINAL_STATES = [
    ActionState.KEPT,
    ActionState.KEPT,
    ActionState.INCONCLUSIVE,
    ActionState.FAILED,
    ActionState.UNKNOWN,
]
FACTORS = [0.5, 0.75, 0.76, 0.9, 0.95, 1.05, 1.1, 1.2, 1.25, 1.2501, 2.0, 1000.0, 0.77]
SECONDS = [0.001, 1, 30, 59, 61, 181, 299, 301, 599, 601, 899, 901, 1799, 1801, 3599, 3601, 20_000, 90_000]
CLOCK_JUMPS_H = [-100_000.0, -24.0, -1.0, -0.1, 0.1, 0.3, 1.0, 7.0, 24.0, 100_000.0]
"""Hours."""
names, factors, seconds = st.sampled_from(TARGETS), st.sampled_from(FACTORS), st.sampled_from(SECONDS)
picks, rarely = st.integers(0, 9), st.sampled_from([False, False, False, True])
OUTCOME_COUNTS: Counter[str] = Counter()


class GuardMachine(RuleBasedStateMachine):
    """Proposals, restarts, clock jumps, faults and operators in any order exceed no limit."""

    def __init__(self):
        super().__init__()
        self.simulation = GuardSimulation()

    def teardown(self):
        OUTCOME_COUNTS.update(self.simulation.count)

    def actions(self, *states):
        return [action for action in self.simulation.ledger.values() if action.state in states]

    def advance(self, seconds):
        OUTCOME_COUNTS["steps"] += 1
        self.simulation.t += seconds

    @initialize()
    def settle(self):
        self.simulation.evaluate()
        self.advance(301)

    @rule(place=names | st.sampled_from(["*", "", "t9"]), factor=factors)
    def want(self, place, factor):
        """The recommender proposes another value."""
        self.advance(0.01)
        self.simulation.wanted[place] = factor

    @rule(place=names)
    def want_no_more(self, place):
        self.advance(0.01)
        self.simulation.wanted.pop(place, None)

    @rule(seconds=seconds)
    def time_passes(self, seconds):
        self.advance(seconds)

    @rule()
    def evaluate(self):
        self.advance(15)
        self.simulation.evaluate()

    @rule(gap=st.sampled_from([60, 91, 120]))
    def evaluate_for_minutes(self, gap):
        """Evaluate long enough for the proposals to become stable."""
        for _ in range(4):
            self.advance(gap)
            self.simulation.evaluate()

    @rule(together=st.booleans(), person=rarely)
    def reserve(self, together, person):
        """Decide on all proposals: one by one, or all before the first is journaled."""
        self.advance(0.01)
        allowed = []
        for proposal in self.simulation.pending:
            if self.simulation.is_allowed(proposal, person):
                allowed.append(proposal)
                if not together:
                    self.simulation.reserve(proposal, person)
        for proposal in allowed if together else ():
            self.simulation.reserve(proposal, person)

    @rule(pick=picks)
    def send(self, pick):
        """Send one of the journaled actions."""
        self.advance(0.01)
        waiting = self.actions(ActionState.PROPOSED)
        if waiting:
            action = waiting[pick % len(waiting)]
            by_id = {proposal.id: proposal for proposal in self.simulation.pending}
            proposal = by_id.get(action.id)
            if proposal is not None:
                self.simulation.send(action, proposal)

    @rule(
        place=names,
        factor=st.sampled_from([0.8, 1.15, 1.25]),
        gap=st.sampled_from([65, 80]),
        person=rarely,
        jump=st.sampled_from([0, 0, *CLOCK_JUMPS_H]),
        restarts=rarely,
        end=st.sampled_from([*FINAL_STATES, *FINAL_STATES, None, "runs on"]),
    )
    def stand_and_do(self, place, factor, gap, person, jump, restarts, end):
        """A stable proposal is journaled, sent and ended: the normal course."""
        if restarts:
            self.restart(1)
        self.clock_jumps(jump)
        self.simulation.wanted = {place: factor}
        self.evaluate_for_minutes(gap)
        self.reserve(together=False, person=person)
        for pick in range(3):
            self.send(pick)
        if end != "runs on":
            self.all_end(end, 0)

    @rule(end=st.sampled_from([*FINAL_STATES, None]), gap=st.sampled_from([0, 16, 31, 61]))
    def all_end(self, end, gap):
        """End all running actions; None = roll them back."""
        for _ in self.actions(ActionState.VERIFYING):
            if end is None:
                self.roll_back(0)
            else:
                self.finish(0, end)
        self.advance(gap * 60)

    @rule(pick=picks, state=st.sampled_from(FINAL_STATES))
    def finish(self, pick, state):
        self.advance(1)
        running = self.actions(ActionState.VERIFYING)
        if running:
            self.simulation.finish(running[pick % len(running)], state)

    @rule(pick=picks)
    def roll_back(self, pick):
        self.advance(1)
        running = self.actions(ActionState.VERIFYING)
        if running:
            self.simulation.roll_back(running[pick % len(running)])

    @rule(hours=st.sampled_from(CLOCK_JUMPS_H))
    def clock_jumps(self, hours):
        self.advance(0.01)
        self.simulation.offset += hours * 3600

    @rule(down=seconds)
    def restart(self, down):
        """Kill and restart the engine: unsaved state is lost and time passes."""
        self.advance(down)
        self.simulation.start_engine()

    @rule(on=rarely)
    def pause(self, on):
        self.advance(0.01)
        self.simulation.pause = Pause(on, "ann")

    @rule(what=st.sampled_from(["calm", "calm", "calm", "mass", "source"]))
    def fault(self, what):
        self.advance(0.01)
        self.simulation.mass = MASS if what == "mass" else NO_MASS_ANOMALY
        self.simulation.source_up = what != "source"

    @rule(place=names, mode=st.sampled_from([Mode.AUTO, Mode.AUTO, Mode.APPROVE, Mode.OFF]))
    def set_mode(self, place, mode):
        self.advance(0.01)
        self.simulation.modes[place] = mode

    @rule(place=names, value=st.sampled_from([77.0, 100.0, 500.0]))
    def somebody_sets(self, place, value):
        """An operator or another controller changes the value."""
        self.advance(0.01)
        self.simulation.values[place] = value
