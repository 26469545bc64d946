"""Guard trials in simulated time: metrics of a service, a naive recommender and the guard with mode auto.

Each trial has a real need, so that without a fault an action starts; a fault must prevent it.
"""

from dataclasses import replace

import numpy as np

from tests.builders.guard_requests import ENOUGH_MEMORY, MIB, NO_MASS_ANOMALY, make_proposal
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.input_quality import SampleWindow, assess_inputs
from trimtab.engine.actions.guard.situation import GuardVerdict, MassAnomalyStatus
from trimtab.engine.actions.guard.situation_builder import SituationBuilder, TargetObservation
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Mode, Pause

LIMITS = Guardrails()
INTERVAL_S = 15
WINDOW_TICKS = round(LIMITS.suspicion / INTERVAL_S)
WARM_UP_TICKS = WINDOW_TICKS
"""Ticks before the first evaluation."""
TRIAL_TICKS = 120
"""Ticks in which the engine may act: 30 minutes."""
MAXMEMORY = Knob("maxmemory", KnobType.INT, "B", low=64 * MIB, high=8 * 1024 * MIB)
WORKERS = Knob("workers", KnobType.INT, low=2, high=64)
FAULTS = ("unit change", "all zero", "empty selector", "source down", "mass anomaly")


class GuardTrial:
    """A cache that is too small, or too large, or a service with too few or too many workers."""

    def __init__(self, seed, fault=None):
        self.rng = np.random.default_rng([seed, 4])
        self.fault, self.grows = fault, bool(self.rng.random() < 0.7)
        self.knob = MAXMEMORY if self.rng.random() < 0.5 and self.grows else WORKERS
        self.value = int(self.rng.integers(200, 2000)) * MIB if self.knob is MAXMEMORY else 8
        self.usual = 10 ** self.rng.uniform(-1, 6, 3)
        self.noise = self.rng.uniform(0.02, 0.2, 3)
        self.begins = WARM_UP_TICKS + int(self.rng.integers(0, 8))
        self.x = self.metric_values()

    def metric_values(self):
        """Return (n_ticks, 3) metric values including the fault; NaN = no sample."""
        ticks = np.arange(WARM_UP_TICKS + TRIAL_TICKS)[:, None]
        season = 1 + 0.2 * np.sin(2 * np.pi * ticks / 960 + self.rng.uniform(0, 6, 3))
        x = self.usual * season * np.exp(self.rng.normal(size=(len(ticks), 3)) * self.noise)
        x[self.rng.random(x.shape) < 0.01] = np.nan
        after = ticks[:, 0] >= self.begins
        if self.fault == "unit change":
            x[after, : self.rng.integers(1, 4)] *= 1000.0 if self.rng.random() < 0.5 else 0.001
        elif self.fault == "all zero":
            x[after] = 0.0
        elif self.fault == "source down":
            x[after] = np.nan
        return x

    def mass(self):
        """Return the anomalies of other series."""
        if self.fault != "mass anomaly":
            return replace(NO_MASS_ANOMALY, anomalous=int(self.rng.integers(0, 8)))
        watched = int(self.rng.integers(20, 20_000))
        if self.rng.random() < 0.3:
            return MassAnomalyStatus(0, watched, 2, int(self.rng.integers(2, 5)))
        return MassAnomalyStatus(int(watched * self.rng.uniform(0.35, 1.0)), watched, 0, 3)

    def windows(self, tick):
        """Return the sample windows of the proposal's inputs at a tick."""
        if self.fault == "empty selector" and tick >= self.begins:
            return []
        window = self.x[tick + 1 - WINDOW_TICKS : tick + 1]
        found = []
        for i, column in enumerate(window.T):
            known = np.flatnonzero(~np.isnan(column))
            age = None if not len(known) else (WINDOW_TICKS - 1 - known[-1]) * float(INTERVAL_S)
            found.append(SampleWindow(f"series {i}", column, age))
        return found

    def proposals(self):
        """Return the proposals of a recommender that trusts all values."""
        change = 1.2 if self.grows else 0.75
        after = int(self.value * change) if self.knob is MAXMEMORY else round(self.value * change)
        way = "up" if self.grows else "down"
        return [
            make_proposal(
                id="R1", subject=self.knob.name, before=self.value, after=after, fingerprint=f"cache-1/{way}",
                created=START, expires=START + 10**15,
            )
        ]  # fmt: skip

    def run(self):
        """Return whether an action started, and the last guard rule that objected."""
        situation_builder, mass, last_rule = SituationBuilder(LIMITS), self.mass(), ""
        for tick in range(WARM_UP_TICKS, WARM_UP_TICKS + TRIAL_TICKS, 2):
            situation_builder.advance((1 + tick * INTERVAL_S) * SECOND)
            if tick < self.begins:
                continue
            up = self.fault != "source down"
            proposals = self.proposals()
            situation_builder.record_evaluation(proposals)
            live = TargetObservation(
                mode=Mode.AUTO, targets=("cache-1",), total_targets=1, knob=self.knob, mass=mass,
                reading=KnobReading(self.value, True, Lasts.UNKNOWN), memory=ENOUGH_MEMORY,
                inputs=assess_inputs(self.windows(tick), INTERVAL_S, up, LIMITS),
            )  # fmt: skip
            situation = situation_builder.build(
                proposals[0], START + tick * INTERVAL_S * SECOND, Pause(False), [], live
            )
            decision = decide(proposals[0], situation, LIMITS)
            if decision.verdict is GuardVerdict.ALLOW:
                return True, ""
            last_rule = decision.guard
        return False, last_rule
