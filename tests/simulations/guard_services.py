"""Simulated services on which changes have unexpected effects, under the guard with mode auto.

A naive recommender reacts to the current load only, so the guard alone prevents oscillation.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

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
from trimtab.engine.types import Action, ActionState, KnobReading, Lasts, Mode, Pause

LIMITS = Guardrails()
KINDS = ("flapping", "delayed", "inverted", "no effect", "helpful")
STEP_S = 60.0
HOURS = 24.0
KNOB = replace(SPEED, low=20.0, high=1000.0)


@dataclass
class Change:
    """A change that was made; `hour` since the start."""

    hour: float
    up: bool
    undo: bool


class SimulatedService:
    """Its latency (1 = target) is load / capacity; `kind` determines the effect of the knob."""

    def __init__(self, kind, seed):
        self.rng = np.random.default_rng([seed, KINDS.index(kind)])
        self.kind, self.value, self.began = kind, 100.0, 100.0
        self.delay_s = self.rng.uniform(1200, 5400)
        self.period_s = self.rng.uniform(1200, 14_400)
        self.phase = self.rng.uniform(0, 6.28)
        self.depth = self.rng.uniform(0.4, 0.9)
        self.noise = self.rng.uniform(0.01, 0.08)
        self.need = self.rng.uniform(1.3, 2.5)
        self.past = [(0.0, 100.0)]

    def set(self, t, value):
        self.value = value
        self.past.append((t, value))

    def capacity(self, t):
        """Return the capacity that the knob gives now."""
        if self.kind in {"flapping", "helpful"}:
            return self.value / 100.0
        if self.kind == "delayed":
            return next(v for at, v in reversed(self.past) if at <= max(t - self.delay_s, 0)) / 100.0
        return 100.0 / self.value if self.kind == "inverted" else 1.0

    def latency(self, t):
        """Return the ratio of load to capacity, with noise."""
        load = self.need
        if self.kind == "flapping":
            wave = np.sin(2 * np.pi * t / self.period_s + self.phase)
            load = 1 + self.depth * (1 if wave > 0 else -1)
        return load / self.capacity(t) * np.exp(self.rng.normal() * self.noise)


class ServiceSimulation:
    """24 hours of one service."""

    def __init__(self, kind, seed):
        self.service, self.situation_builder, self.actions, self.changes = (
            SimulatedService(kind, seed),
            SituationBuilder(LIMITS),
            {},
            [],
        )
        self.t, self.number, self.bad, self.base = 0.0, 0, 0, 1.0

    @property
    def now(self):
        return START + round(self.t * SECOND)

    def live(self):
        return TargetObservation(
            mode=Mode.AUTO, targets=("cache-1",), total_targets=1, knob=KNOB, inputs=GOOD_INPUTS,
            mass=NO_MASS_ANOMALY,
            reading=KnobReading(self.service.value, True, Lasts.UNKNOWN),
        )  # fmt: skip

    def allowed(self, proposal, undoes=None):
        situation = self.situation_builder.build(
            proposal, self.now, Pause(False), list(self.actions.values()), self.live(), undoes
        )
        return decide(proposal, situation, LIMITS).verdict is GuardVerdict.ALLOW

    def do(self, proposal, undoes=None):
        """Change the knob and record the action."""
        self.changes.append(Change(self.t / 3600, proposal.after > proposal.before, undoes is not None))
        action = Action(
            id=proposal.id, key=proposal.id, recommendation_id=proposal.id, tool="redis", target="cache-1",
            subject="speed", is_action=False, before=proposal.before, after=proposal.after, set_before=True,
            state=ActionState.KEPT if undoes else ActionState.VERIFYING, mode=Mode.AUTO, by="trimtab",
            created=self.now, started=self.now, undoes=undoes.id if undoes else None,
        )  # fmt: skip
        self.actions[action.id] = action
        self.service.set(self.t, proposal.after)

    def recommend(self, latency):
        """Return the proposals for the current latency."""
        if 0.8 <= latency <= 1.25:
            return []
        value, self.number = self.service.value, self.number + 1
        after = float(np.clip(value * (1.25 if latency > 1 else 0.75), KNOB.low, KNOB.high))
        way = "up" if latency > 1 else "down"
        return [
            make_proposal(
                id=f"R{self.number:06d}", subject="speed", before=value, after=after, fingerprint=way,
                created=self.now, expires=self.now + 3600 * SECOND,
            )
        ]  # fmt: skip

    def watch(self, latency):
        """Roll back after three bad checks, keep after ten minutes."""
        running = next((a for a in self.actions.values() if a.state is ActionState.VERIFYING), None)
        if running is None:
            self.base = latency
            return
        worse = abs(latency - 1) > abs(self.base - 1) + 0.15
        self.bad = self.bad + 1 if worse else 0
        if self.bad >= LIMITS.bad_checks:
            self.roll_back(running)
        elif self.now - running.started >= LIMITS.watch * SECOND:
            self.actions[running.id] = replace(running, state=ActionState.KEPT, ended=self.now)

    def roll_back(self, running):
        """Roll back the running change when the guard allows it."""
        self.number, self.bad = self.number + 1, 0
        undo = manual_proposal(
            "redis", "cache-1", "speed", running.after, running.before, proposal_id=f"R{self.number:06d}"
        )
        if self.allowed(undo, running):
            self.do(undo, running)
            self.actions[running.id] = replace(running, state=ActionState.ROLLED_BACK, ended=self.now)

    def run(self):
        """Simulate one day; return all changes."""
        while self.t < HOURS * 3600:
            self.situation_builder.advance(round((self.t + 1) * SECOND))
            latency = self.service.latency(self.t)
            self.watch(latency)
            proposals = self.recommend(latency)
            self.situation_builder.record_evaluation(proposals)
            if proposals and self.allowed(proposals[0]):
                self.do(proposals[0])
            self.t += STEP_S
        return self.changes


def reversal_hours(changes, rollbacks):
    """Return the hours of changes that reverse the previous one, with or without rollbacks."""
    pairs = [(first, later) for first, later in itertools.pairwise(changes) if first.up != later.up]
    return [later.hour for _, later in pairs if rollbacks or not later.undo]


def max_in_window(hours, window):
    """Return the largest number of hours in any window."""
    return max((sum(start <= h < start + window for h in hours) for start in hours), default=0)
