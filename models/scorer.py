"""Scorer: detectors, calibration and combination; turns a tick of all series into anomaly scores and bands.

Every detector statistic becomes the rate per tick at which larger excursions occurred in the series' own
history. The rarest channel determines the score of the series. Its rate is calibrated again, because several
channels are tested at the same time, and compared with the false-alarm budget per series and week:
`anomaly_score = log(rate) / log(budget)`. Above 1 is an anomaly. An anomaly that lasts has its full score
only when it begins or gets worse (`trimtab.models.calibration.event_score`).

Learning hygiene: the detectors do not learn flagged samples. A level shift that lasts longer than the
deadline is declared (`Scores.shifted`) and learnt. Nothing is learnt where the caller's mask is False.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.models import scoring_kernel
from trimtab.models.bank import StateArrays, StateField
from trimtab.models.calibration import event_score
from trimtab.models.calibration.tail_probability import tail_fields
from trimtab.models.contracts import Bools, Detector, Floats, Ints, State
from trimtab.models.detectors.level_shift import LevelShift
from trimtab.models.detectors.range_exceedance import RangeExceedance
from trimtab.models.detectors.seasonal_residual import SeasonalResidual
from trimtab.models.errors import ShapeError, StateError

WEEK_S = 604_800.0
WARM_UP_SAMPLES = 40
"""Number of samples that a series learns before its first score."""
MIN_DEADLINE_TICKS = 12
"""Minimum number of ticks after which a lasting shift is declared."""
DOUBT_DEADLINE_S = 300.0
"""Deadline in seconds after `doubt_past`; longer than the usual load of a service start."""
DEFAULT_DETECTORS = ("range_exceedance", "seasonal_residual", "level_shift")
BUDGET_SHARES = {"range_exceedance": 2.0}
"""Relative shares of the false-alarm budget, 1 by default; only range_exceedance finds unseen spikes."""
STATE_VERSION = 3
"""Version of the state. Version 1 has no return level, version 2 no event scores; both are still read."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one tick, each (n_series,), or of a run, each (n_ticks, n_series).

    anomaly_score : float64, above 1 = rarer than the false-alarm budget; NaN = no sample, or still learning
    yhat, yhat_lower, yhat_upper : float64 in the series' unit; NaN = not known yet
    detector      : int64, index into `Scorer.names` of the detector with the rarest statistic; -1 = none
    shifted       : bool, a lasting level shift was declared and learnt at this tick
    """

    anomaly_score: Floats
    yhat: Floats
    yhat_lower: Floats
    yhat_upper: Floats
    detector: Ints
    shifted: Bools

    def at(self, k: int) -> "Scores":
        """Return the scores of tick k of a run."""
        return Scores(*(getattr(self, f)[k] for f in self.__slots__))


class Scorer:
    """Scores n series sampled at one interval; every sample is scored before it is learnt.

    interval_s : seconds between ticks
    detectors  : "default", catalogue names, or detectors of n_series series
    false_alarms_per_week : anomaly intervals allowed per healthy series and week

    >>> import numpy as np
    >>> s = Scorer(n_series=1, interval_s=60)
    >>> x = np.random.default_rng(1).normal(10, 1, (500, 1))
    >>> x[-1] = 40
    >>> scores = s.run(x, np.arange(500, dtype=np.int64) * 60_000_000_000)
    >>> bool(scores.anomaly_score[-1, 0] > 1), bool(scores.anomaly_score[-2, 0] < 1)
    (True, True)
    """

    def __init__(
        self,
        n_series: int,
        interval_s: float,
        detectors: str | tuple[str | Detector, ...] = "default",
        false_alarms_per_week: float = 1.0,
    ) -> None:
        self.interval_s = interval_s
        self.false_alarms_per_week = false_alarms_per_week
        chosen = _flatten_detectors(detectors)
        per_day = 86_400.0 / interval_s
        self._range = RangeExceedance(n_series, alpha=1.0 / min(max(per_day, 200.0), 5000.0))
        self._seasonal = SeasonalResidual(n_series, interval_s, alpha=0.005)
        self._shift = LevelShift(n_series, alpha=0.005)
        self.extras: dict[str, Detector] = {
            _detector_name(d): _make_detector(d, n_series) if isinstance(d, str) else d
            for d in chosen
            if d not in DEFAULT_DETECTORS
        }
        self.names = (*DEFAULT_DETECTORS, *self.extras)
        self._channels = [d for d in range(3) for _ in range(2)]
        for j, extra in enumerate(self.extras.values()):
            self._channels += [3 + j] * (2 if extra.two_sided else 1)
        self._log_weight = self._channel_log_weights({_detector_name(d) for d in chosen})
        self._tails = StateArrays(tail_fields(len(self._channels) + 1), n_series)
        self._shift_timers = StateArrays(
            {
                "held": StateField(np.int64),
                "quiet": StateField(np.int64),
                "candidate": StateField(np.float64),
            },
            n_series,
        )
        self._event_scores = StateArrays(event_score.event_score_fields(), n_series)

    @property
    def n_series(self) -> int:
        """Number of slots."""
        return self._tails.n_series

    @property
    def budget(self) -> float:
        """Anomaly intervals allowed per tick, 0..0.1."""
        return min(0.1, self.false_alarms_per_week * self.interval_s / WEEK_S)

    def score(self, x: Floats, t: int) -> Scores:
        """Return the scores of one tick without changing the state."""
        extra = self._extra_statistics(x[None, :], np.array([t], np.int64), None, learning=False)
        return self._run(x[None, :], np.array([t], np.int64), None, extra, learning=False).at(0)

    def step(self, x: Floats, t: int, where: Bools | None = None) -> Scores:
        """Score one tick, then learn it; return its scores.

        x     : (n_series,) float64, NaN = no sample
        t     : int64 ns UTC
        where : (n_series,) bool, series that may learn; None = all
        """
        return self.run(x[None, :], np.array([t], np.int64), where).at(0)

    def run(self, x: Floats, t: Ints, where: Bools | None = None) -> Scores:
        """Run `step` over (n_ticks, n_series) values at (n_ticks,) times in one call.

        Raises ShapeError if the shapes do not fit.
        """
        if x.ndim != 2 or x.shape[1] != self.n_series or len(t) != len(x):
            raise ShapeError(
                f"values have shape {x.shape} for {len(t)} times; the scorer has {self.n_series} series"
            )
        extra = self._extra_statistics(x, t, where, learning=True)
        return self._run(x, t, where, extra, learning=True)

    def learn_seasons(self, x: Floats, t: Ints, step_s: float) -> None:
        """Learn daily and weekly seasons from history that is too coarse to learn the noise from.

        x      : (n_ticks, n_series), NaN = no sample
        t      : (n_ticks,) int64 ns UTC
        step_s : seconds between ticks of this history
        """
        self._seasonal.interval_s, live_interval_s = step_s, self._seasonal.interval_s
        self._seasonal.run(x, t)
        self._seasonal.interval_s = live_interval_s
        self._seasonal.arrays.values["seen"][:] = np.minimum(self._seasonal.arrays.values["seen"], 30.0)

    def learning_ticks(self) -> Ints:
        """Return the number of samples that each series still needs to be scored, (n_series,); 0 = scored."""
        missing = WARM_UP_SAMPLES - self._seasonal.arrays.values["seen"]
        ticks: Ints = np.maximum(missing, 0).astype(np.int64)
        return ticks

    def doubt_past(self, slots: Ints) -> None:
        """Shorten the shift deadline of these slots to DOUBT_DEADLINE_S if they are unusual now.

        Call it when their learned state may be outdated, for example after a restart of the service.
        """
        held, deadline = self._shift_timers.values["held"], self._deadline_ticks()
        unusual = slots[held[slots] > 0]
        doubt_ticks = max(MIN_DEADLINE_TICKS, round(DOUBT_DEADLINE_S / self.interval_s))
        held[unusual] = np.maximum(held[unusual], deadline - doubt_ticks)

    def _deadline_ticks(self) -> int:
        return int(max(MIN_DEADLINE_TICKS, 3600.0 / self.interval_s))

    def _channel_log_weights(self, chosen: set[str]) -> Floats:
        is_used = [self.names[d] in chosen or self.names[d] in self.extras for d in self._channels]
        shares = np.array([BUDGET_SHARES.get(self.names[d], 1.0) for d in self._channels]) * is_used
        with np.errstate(divide="ignore"):
            weights: Floats = np.log(shares / max(shares.sum(), 1e-300))
        return weights

    def _extra_statistics(self, x: Floats, t: Ints, where: Bools | None, *, learning: bool) -> Floats:
        columns = []
        for extra in self.extras.values():
            s = extra.run(x, t, where) if learning else extra.score(x[0], int(t[0]))[None, :]
            columns += [s, -s] if extra.two_sided else [s]
        return np.stack(columns, axis=2) if columns else np.empty((*x.shape, 0))

    def _run(self, x: Floats, t: Ints, where: Bools | None, extra: Floats, *, learning: bool) -> Scores:
        shape = x.shape
        may_learn = np.array(np.broadcast_to(np.bool_(True) if where is None else where, shape))
        out = np.full((4, *shape), np.nan)
        channel, shifted = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
        run: Callable[..., None] = scoring_kernel.score_run
        run(
            np.require(x, np.float64, ["C", "W"]), np.require(t, np.int64, ["C", "W"]), may_learn,
            np.require(extra, np.float64, ["C", "W"]), learning,
            (self.interval_s, self._range.alpha, self._seasonal.alpha, self._shift.alpha),
            self._kernel_limits(), self._log_weight,
            *(tuple(a.values.values()) for a in self._kernel_parts().values()),
            out, channel, shifted,
        )  # fmt: skip
        detector = np.append(np.array(self._channels, np.int64), -1)[channel]
        return Scores(out[0], out[1], out[2], out[3], detector, shifted)

    def _kernel_limits(self) -> tuple[float, float, int, float]:
        ticks_a_week = WEEK_S / self.interval_s
        return (
            math.log(self.budget),
            float(WARM_UP_SAMPLES),
            self._deadline_ticks(),
            max(4.0 * ticks_a_week, 4096.0),
        )

    def _kernel_parts(self) -> dict[str, StateArrays]:
        return {
            "range": self._range.arrays,
            "season": self._seasonal.arrays,
            "shift": self._shift.arrays,
            "tails": self._tails,
            "holds": self._shift_timers,
            "news": self._event_scores,
        }

    def _all_parts(self) -> dict[str, Any]:
        return {**self._kernel_parts(), **{f"extra.{k}": d for k, d in self.extras.items()}}

    def _restorable_parts(self) -> dict[str, Any]:
        return {name: part for name, part in self._all_parts().items() if getattr(part, "restorable", True)}

    def grow(self, n: int) -> None:
        """Extend to n slots in total."""
        for part in self._all_parts().values():
            part.grow(n)

    def take(self, slots: Ints) -> State:
        """Return a copy of the state of these slots."""
        return {
            f"{name}/{k}": v for name, part in self._all_parts().items() for k, v in part.take(slots).items()
        }

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with a state from `take`."""
        for name, part in self._all_parts().items():
            part.put(slots, _part_state(name, state))

    @property
    def by_replay(self) -> tuple[str, ...]:
        """Names of the detectors whose state is restored only by replaying ticks."""
        return tuple(name for name, extra in self.extras.items() if not getattr(extra, "restorable", True))

    def move(self, other: "Scorer", theirs: Ints, mine: Ints, *, replayed_only: bool = False) -> None:
        """Move slots of another scorer with the same detectors into this one; the other may lose their state.

        theirs, mine  : source and destination slots, of equal length
        replayed_only : move only detectors whose state is restored by replay
        """
        names = [f"extra.{name}" for name in self.by_replay] if replayed_only else list(self._all_parts())
        target, source = self._all_parts(), other._all_parts()  # noqa: SLF001 - same class
        for name in names:
            if hasattr(target[name], "move_from"):
                target[name].move_from(source[name], theirs, mine)
            else:
                target[name].put(mine, source[name].take(theirs))

    def reset(self, slots: Ints) -> None:
        """Discard the learned state of these slots."""
        for part in self._all_parts().values():
            part.reset(slots)

    def state(self) -> State:
        """Return a copy of the state, except that of detectors restored by replay (`restorable` is False)."""
        parts = {
            f"{name}/{k}": v
            for name, part in self._restorable_parts().items()
            for k, v in part.state().items()
        }
        return parts | {"version": np.array([STATE_VERSION], np.int64)}

    def restore(self, state: State) -> None:
        """Replace the state by one from `state`. Raises StateError if version or detectors do not fit."""
        state = _upgrade_state(state)
        for name, part in self._restorable_parts().items():
            part.restore(_part_state(name, state))
        for extra in self.extras.values():
            if not extra.restorable:
                extra.grow(self.n_series)

    def bytes_per_series(self) -> int:
        """Return the memory of one more series in bytes."""
        return sum(int(part.bytes_per_series()) for part in self._all_parts().values())


def _flatten_detectors(detectors: str | tuple[str | Detector, ...]) -> tuple[str | Detector, ...]:
    members = (detectors,) if isinstance(detectors, str) else tuple(detectors)
    flat: list[str | Detector] = []
    for d in members:
        flat += DEFAULT_DETECTORS if d == "default" else [d]
    return tuple(flat)


def _make_detector(name: str, n_series: int) -> Detector:
    from trimtab.models.catalogue import detector

    return detector(name, n_series=n_series)


def _detector_name(d: str | Detector) -> str:
    return d if isinstance(d, str) else getattr(d, "name", type(d).__name__)


def _upgrade_state(state: State) -> State:
    """Convert a state of an older version to the current one. Raises StateError for an unknown version."""
    version = int(state["version"][0]) if "version" in state else 0
    if not 1 <= version <= STATE_VERSION:
        raise StateError(f"scorer state has version {version}; supported are versions 1 to {STATE_VERSION}")
    if version < STATE_VERSION:
        level = state["season/level"]
        fresh = StateArrays(event_score.event_score_fields(), len(level)).values
        state = {**state, **{f"news/{name}": values for name, values in fresh.items()}}
        if version == 1:
            state["season/level"] = np.concatenate([level, level[:, :1]], axis=1)
    return state


def _part_state(name: str, state: State) -> State:
    prefix = f"{name}/"
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
