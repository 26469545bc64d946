"""Harness that feeds noisy series to a `SourceDetector`, and a predictable scorer."""

import numpy as np

from trimtab.engine.detection.source_detector import SourceDetector
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.types import Anomaly, SeriesKey
from trimtab.models.bank import StateArrays, StateField
from trimtab.models.contracts import Bools, Floats, Ints
from trimtab.models.scorer import Scores

SECOND = 1_000_000_000
START = 1_767_225_600 * SECOND
INTERVAL_S = 5.0


def pod_series(metric: str, pod_name: str, **labels: str) -> SeriesKey:
    """Return a series of a pod."""
    return SeriesKey.of("k", metric, {"pod": pod_name, **labels})


def differs_only_in_pod(old: SeriesKey, new: SeriesKey) -> bool:
    """Return whether two series differ only in their pod."""
    rest = [tuple(pair for pair in key.labels if pair[0] != "pod") for key in (old, new)]
    return old.metric == new.metric and rest[0] == rest[1] and old != new


class DetectorHarness:
    """Feeds a `SourceDetector` with noise around 10 and keeps the latest version of each anomaly.

    keys     : series of the next ticks; the first detector slots
    seed     : seed of the noise
    detector : a new one at `INTERVAL_S` if None
    """

    def __init__(self, *keys: SeriesKey, seed: int = 1, detector: SourceDetector | None = None) -> None:
        self.keys = tuple(keys)
        self.detector = detector or SourceDetector("k", INTERVAL_S, differs_only_in_pod)
        self.rng = np.random.default_rng(seed)
        self.ticks = 0
        self.latest: dict[str, Anomaly] = {}
        self.last: TickResult | None = None

    @property
    def now(self) -> int:
        """Time of the next tick, in int64 ns UTC."""
        return START + round(self.ticks * INTERVAL_S * SECOND)

    def run(self, ticks: int, *, complete: bool = True, **levels: float) -> TickResult:
        """Feed ticks and return the last result; `levels` are means by pod name (default 10)."""
        for _ in range(ticks):
            values = self.rng.normal(10, 1, len(self.keys))
            for i, key in enumerate(self.keys):
                values[i] += levels.get(dict(key.labels).get("pod", ""), 10.0) - 10.0
            self.feed(ClosedTick(self.now, self.keys, values, complete))
        assert self.last is not None
        return self.last

    def fail(self, ticks: int) -> TickResult:
        """Feed ticks in which the source is unavailable and return the last result."""
        for _ in range(ticks):
            self.feed(ClosedTick(self.now, (), np.empty(0), complete=False))
        assert self.last is not None
        return self.last

    def feed(self, tick: ClosedTick) -> None:
        """Feed one tick."""
        self.last = self.detector.step(tick)
        self.latest |= {anomaly.id: anomaly for anomaly in self.last.anomalies}
        self.ticks += 1

    def anomalies(self, direction: str | None = None) -> list[Anomaly]:
        """Return the latest version of each anomaly, oldest first."""
        chosen = [a for a in self.latest.values() if direction in {None, str(a.direction)}]
        return sorted(chosen, key=lambda a: a.id)


class PlainScorer:
    """Stand-in for `models.scorer.Scorer` with a fixed expected level and predictable scores.

    The score is the distance from the level divided by 8, times the cube root of the budget. A deviation
    that lasts 12 minutes becomes the new level.
    """

    names = ("plain",)
    by_replay = ()

    def __init__(
        self,
        n_series: int,
        interval_s: float,
        detectors: str | tuple[str, ...] = "default",
        false_alarms_per_week: float = 1.0,
    ) -> None:
        self.detectors = detectors
        self.false_alarms_per_week = false_alarms_per_week
        self.accept_after = round(720 / interval_s)
        fields = {
            "samples": StateField(np.int64),
            "level": StateField(np.float64, 10.0),
            "shift_ticks": StateField(np.int64),
        }
        self.arrays = StateArrays(fields, n_series)
        for method in ("grow", "take", "put", "reset", "state", "restore", "bytes_per_series"):
            setattr(self, method, getattr(self.arrays, method))

    @property
    def n_series(self) -> int:
        """Number of slots."""
        return self.arrays.n_series

    def move(self, other: "PlainScorer", theirs: Ints, mine: Ints) -> None:
        """Overwrite slots with those of another scorer."""
        self.put(mine, other.take(theirs))

    def step(self, x: Floats, t: int, where: Bools | None = None) -> Scores:  # noqa: ARG002 - as in Scorer
        """Score one tick, then learn it."""
        samples, level, shift_ticks = self.arrays.values.values()
        allowed = np.ones(len(x), np.bool_) if where is None else where
        score = np.abs(x - level) / 8.0 * np.cbrt(self.false_alarms_per_week)
        score[samples < 40] = np.nan
        detector = np.where(np.isnan(score), -1, 0)
        scores = Scores(score, level.copy(), level - 8.0, level + 8.0, detector, np.zeros(len(x), np.bool_))
        shift_ticks[:] = np.where(score > 1.0, shift_ticks + 1, np.where(np.isnan(score), shift_ticks, 0))
        scores.shifted[:] = shift_ticks >= self.accept_after
        level[scores.shifted] = x[scores.shifted]
        shift_ticks[scores.shifted] = 0
        samples += ~np.isnan(x) & allowed
        return scores

    def run(self, x: Floats, t: Ints, where: Bools | None = None) -> Scores:
        """Score and learn the rows of x in order, as repeated `step`."""
        rows = [self.step(row, int(at), where) for row, at in zip(x, t, strict=True)]
        return Scores(*(np.stack([getattr(row, name) for row in rows]) for name in Scores.__slots__))

    def learn_seasons(self, x: Floats, t: Ints, step_s: float) -> None:
        """Do nothing: the fixed level has no seasons."""

    def learning_ticks(self) -> Ints:
        """Return the number of samples that each series still needs before it is scored."""
        return np.maximum(40 - self.arrays.values["samples"], 0)

    def doubt_past(self, slots: Ints) -> None:
        """Accept deviations of these slots after at most twelve more ticks."""
        shift_ticks = self.arrays.values["shift_ticks"]
        shifted = slots[shift_ticks[slots] > 0]
        shift_ticks[shifted] = np.maximum(shift_ticks[shifted], self.accept_after - 12)
