"""Detectors + calibration + combination: one tick of all series -> anomaly_score and expected band.

Every detector's statistic becomes the rate, a tick, at which the series' own past showed larger excursions.
The rarest channel speaks for the series; its rate is calibrated once more, because several channels watch at
the same time, and compared with the one setting that a user understands, false alarms a series and week:
`anomaly_score = log(rate) / log(budget)`. Above 1 is an anomaly; of one that lasts, the score is told in full
where it begins or gets worse (`trimtab.models.calibration.event_score`).

Learning hygiene: a flagged sample is not learnt by the detectors; a shift that lasts past `deadline` is
declared (`Scores.shifted`) and learnt; nothing is learnt where the caller's mask says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.models import scoring_kernel
from trimtab.models.bank import StateArrays, StateField
from trimtab.models.calibration import event_score
from trimtab.models.calibration.tail_probability import tail_fields as tail_fields
from trimtab.models.contracts import Bools, Detector, Floats, Ints, State
from trimtab.models.detectors.level_shift import LevelShift
from trimtab.models.detectors.range_exceedance import RangeExceedance
from trimtab.models.detectors.seasonal_residual import SeasonalResidual
from trimtab.models.errors import ShapeError, StateError

WEEK_S = 604_800.0
WARM_UP_SAMPLES = 40
"""Samples that a series is only learnt from before it is scored."""
MIN_DEADLINE_TICKS = 12
"""Ticks that a shift lasts at least before it is declared."""
DOUBT_DEADLINE_S = 300.0
"""Seconds after which it is, where the past is in doubt: longer than the work of a start, which passes."""
DEFAULT_DETECTORS = ("range_exceedance", "seasonal_residual", "level_shift")
BUDGET_SHARES = {"range_exceedance": 2.0}
"""Of the false-alarm budget, where not 1: spikes beyond all that was seen have nobody else to find them."""
STATE_VERSION = 3
"""Of the state. Version 1 did not know where the last value came from, version 2 not what was told; both are
read, others are refused."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one tick, each (n_series,); of a run, each (n_ticks, n_series).

    anomaly_score     : float64, above 1 = rarer than the false-alarm budget; NaN = no sample, or learning
    yhat, yhat_lower, yhat_upper : float64 in the series' unit; NaN = not known yet
    detector          : int64, index into `Scorer.names` of the one that speaks; -1 = none
    shifted           : bool, a lasting level shift was declared and learnt this tick
    """

    anomaly_score: Floats
    yhat: Floats
    yhat_lower: Floats
    yhat_upper: Floats
    detector: Ints
    shifted: Bools

    def at(self, k: int) -> "Scores":
        """Tick k of a run."""
        return Scores(*(getattr(self, f)[k] for f in self.__slots__))


class Scorer:
    """Scores n series at one interval; every sample is scored before it is learnt.

    interval_s : seconds between ticks
    detectors  : "default", or names from the catalogue, or detectors of n_series series
    false_alarms_per_week : anomaly intervals that a healthy series may show in a week

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
        """Series that there is room for."""
        return self._tails.n_series

    @property
    def budget(self) -> float:
        """Anomaly intervals allowed a tick, 0..0.1."""
        return min(0.1, self.false_alarms_per_week * self.interval_s / WEEK_S)

    def score(self, x: Floats, t: int) -> Scores:
        """Scores of one tick; changes nothing."""
        extra = self._extra_statistics(x[None, :], np.array([t], np.int64), None, learning=False)
        return self._run(x[None, :], np.array([t], np.int64), None, extra, learning=False).at(0)

    def step(self, x: Floats, t: int, where: Bools | None = None) -> Scores:
        """Scores of one tick, which is then learnt.

        x : (n_series,) float64, NaN = no sample;  t : int64 ns;  where : (n_series,) bool, who may learn
        """
        return self.run(x[None, :], np.array([t], np.int64), where).at(0)

    def run(self, x: Floats, t: Ints, where: Bools | None = None) -> Scores:
        """Repeated `step` over (n_ticks, n_series) values at (n_ticks,) times.

        Raises ShapeError where the shapes do not fit.
        """
        if x.ndim != 2 or x.shape[1] != self.n_series or len(t) != len(x):
            raise ShapeError(
                f"values are {x.shape} at {len(t)} times; the scorer holds {self.n_series} series"
            )
        extra = self._extra_statistics(x, t, where, learning=True)
        return self._run(x, t, where, extra, learning=True)

    def learn_seasons(self, x: Floats, t: Ints, step_s: float) -> None:
        """Learn a day's and a week's course from history that is too coarse for noise.

        x : (n_ticks, n_series), NaN = no sample;  t : (n_ticks,) int64 ns;  step_s : seconds between them
        """
        self._seasonal.interval_s, fine = step_s, self._seasonal.interval_s
        self._seasonal.run(x, t)
        self._seasonal.interval_s = fine
        self._seasonal.arrays.values["seen"][:] = np.minimum(self._seasonal.arrays.values["seen"], 30.0)

    def learning_ticks(self) -> Ints:
        """(n_series,) samples that are still needed until a series is scored; 0 = it is scored."""
        missing = WARM_UP_SAMPLES - self._seasonal.arrays.values["seen"]
        ticks: Ints = np.maximum(missing, 0).astype(np.int64)
        return ticks

    def doubt_past(self, slots: Ints) -> None:
        """What these slots learnt may not hold: where they are unusual now, DOUBT_S is long enough."""
        held, deadline = self._shift_timers.values["held"], self._deadline_ticks()
        unusual = slots[held[slots] > 0]
        doubt = max(MIN_DEADLINE_TICKS, round(DOUBT_DEADLINE_S / self.interval_s))
        held[unusual] = np.maximum(held[unusual], deadline - doubt)

    def _deadline_ticks(self) -> int:
        return int(max(MIN_DEADLINE_TICKS, 3600.0 / self.interval_s))

    def _channel_log_weights(self, chosen: set[str]) -> Floats:
        used = [self.names[d] in chosen or self.names[d] in self.extras for d in self._channels]
        shares = np.array([BUDGET_SHARES.get(self.names[d], 1.0) for d in self._channels]) * used
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
        everywhere = np.array(np.broadcast_to(np.bool_(True) if where is None else where, shape))
        out = np.full((4, *shape), np.nan)
        loudest, shifted = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
        run: Callable[..., None] = scoring_kernel.score_run
        run(
            np.require(x, np.float64, ["C", "W"]), np.require(t, np.int64, ["C", "W"]), everywhere,
            np.require(extra, np.float64, ["C", "W"]), learning,
            (self.interval_s, self._range.alpha, self._seasonal.alpha, self._shift.alpha), self._kernel_limits(),
            self._log_weight, *(tuple(a.values.values()) for a in self._kernel_parts().values()),
            out, loudest, shifted,
        )  # fmt: skip
        speaker = np.append(np.array(self._channels, np.int64), -1)[loudest]
        return Scores(out[0], out[1], out[2], out[3], speaker, shifted)

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
        """Make room for n series in all."""
        for part in self._all_parts().values():
            part.grow(n)

    def take(self, slots: Ints) -> State:
        """A copy of all that is known of these slots."""
        return {
            f"{name}/{k}": v for name, part in self._all_parts().items() for k, v in part.take(slots).items()
        }

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with what `take` gave."""
        for name, part in self._all_parts().items():
            part.put(slots, _part_state(name, state))

    @property
    def by_replay(self) -> tuple[str, ...]:
        """Members that come back by replay only."""
        return tuple(name for name, extra in self.extras.items() if not getattr(extra, "restorable", True))

    def move(self, other: "Scorer", theirs: Ints, mine: Ints, *, replayed_only: bool = False) -> None:
        """Overwrite slots with what a scorer of the same detectors knows of its slots, which it may lose.

        replayed_only : only of members that come back by replay only
        """
        names = [f"extra.{name}" for name in self.by_replay] if replayed_only else list(self._all_parts())
        to, source = self._all_parts(), other._all_parts()  # noqa: SLF001 - another of its kind
        for name in names:
            if hasattr(to[name], "adopt"):
                to[name].adopt(source[name], theirs, mine)
            else:
                to[name].put(mine, source[name].take(theirs))

    def reset(self, slots: Ints) -> None:
        """Forget these slots."""
        for part in self._all_parts().values():
            part.reset(slots)

    def state(self) -> State:
        """A copy of everything, but for members that come back by replay only (`restorable` is False)."""
        parts = {
            f"{name}/{k}": v
            for name, part in self._restorable_parts().items()
            for k, v in part.state().items()
        }
        return parts | {"version": np.array([STATE_VERSION], np.int64)}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError for another version or other detectors."""
        state = _upgrade_state(state)
        for name, part in self._restorable_parts().items():
            part.restore(_part_state(name, state))
        for extra in self.extras.values():
            if not extra.restorable:
                extra.grow(self.n_series)

    def bytes_per_series(self) -> int:
        """Memory that one more series takes, in bytes."""
        return sum(int(part.bytes_per_series()) for part in self._all_parts().values())


def _flatten_detectors(detectors: str | tuple[str | Detector, ...]) -> tuple[str | Detector, ...]:
    given = (detectors,) if isinstance(detectors, str) else tuple(detectors)
    flat: list[str | Detector] = []
    for d in given:
        flat += DEFAULT_DETECTORS if d == "default" else [d]
    return tuple(flat)


def _make_detector(name: str, n_series: int) -> Detector:
    from trimtab.models.catalogue import detector

    return detector(name, n_series=n_series)


def _detector_name(d: str | Detector) -> str:
    return d if isinstance(d, str) else getattr(d, "name", type(d).__name__)


def _upgrade_state(state: State) -> State:
    """State of a version before, as this one has it. Raises StateError for a version that is not known."""
    version = int(state["version"][0]) if "version" in state else 0
    if not 1 <= version <= STATE_VERSION:
        raise StateError(f"this state has version {version}, this scorer reads versions 1 to {STATE_VERSION}")
    if version < STATE_VERSION:
        level = state["season/level"]
        fresh = StateArrays(event_score.event_score_fields(), len(level)).values
        state = {**state, **{f"news/{name}": values for name, values in fresh.items()}}
        if version == 1:
            state["season/level"] = np.concatenate([level, level[:, :1]], axis=1)
    return state


def _part_state(name: str, state: State) -> State:
    start = f"{name}/"
    return {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
