"""What a detector and a forecaster promise. Tuners join here when they exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
State = dict[str, npt.NDArray[np.generic]]
"""Named arrays. In the state of a whole bank, or of some slots of it, as `take` gives it."""


@runtime_checkable
class Detector(Protocol):
    """A streaming detector that holds the state of `n_series` series in arrays.

    x     : (n_series,) float64 in the series' own unit, NaN = no sample this tick
    t     : int64, nanoseconds UTC of the tick: data, never a clock
    where : (n_series,) bool, series that may learn this tick; None = all
    gate  : (n_series,) float64, no learning where abs(statistic) > gate; None = no gate

    A statistic is (n_series,) float64 and larger is more unusual; of a `two_sided` detector it
    is signed and large negative values are unusual too. NaN = no sample, or not warm yet; infinite = off a
    course that never varied. A sample that is not finite is no sample.
    A sample is always scored before it is learnt.
    """

    n_series: int
    level: str
    """"series", or "entity": then the detector is also given `entity_of_slot`, (n_series,) int32."""
    two_sided: bool
    restorable: bool
    """False: `state` and `restore` raise StateError; the way back after a restart is a replay of ticks."""

    def score(self, x: Floats, t: int) -> Floats:
        """The statistic of this tick; changes nothing."""
        ...

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Take this tick into the state."""
        ...

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Score, then learn, in one pass."""
        ...

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Repeated `step` over (n_ticks, n_series) values and (n_ticks,) times, in one call.

        where : (n_series,) or (n_ticks, n_series) bool
        """
        ...

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:
        """(yhat, lower, upper), each (n_series,), for the tick at t; None where it has no opinion."""
        ...

    def grow(self, n: int) -> None:
        """Make room for n series in all; new slots are as after `reset`."""
        ...

    def take(self, slots: Ints) -> State:
        """A copy of the state of these slots."""
        ...

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with what `take` gave."""
        ...

    def reset(self, slots: Ints) -> None:
        """Forget what these slots learnt."""
        ...

    def state(self) -> State:
        """A copy of the whole state."""
        ...

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        ...

    def bytes_per_series(self) -> int:
        """Memory that one more series costs, in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Panel:
    """The past of many series on grids of one step, laid side by side so that they end in the same row.

    y            : (n_steps, n_series) float64 in each series' own unit; NaN = no sample, also in front
    end          : (n_series,) int64, nanoseconds UTC of the last row of each series
    step_s       : seconds from row to row
    non_negative : (n_series,) bool, series whose unit forbids values below zero
    events       : (n_steps + n_ahead, n_series) bool, holidays and other known days, of the past and
                   beyond it; None = none are known
    """

    y: Floats
    end: Ints
    step_s: float
    non_negative: Bools
    events: Bools | None = None

    def select(self, columns: Ints) -> "Panel":
        """Some of the series."""
        events = None if self.events is None else self.events[:, columns]
        y = np.ascontiguousarray(self.y[:, columns])
        return Panel(y, self.end[columns], self.step_s, self.non_negative[columns], events)


@runtime_checkable
class Forecaster(Protocol):
    """A load forecaster: what all series share is learnt by `fit`, what is a series' own from its past."""

    def fit(self, panel: Panel) -> None:
        """Learn what the series of a panel have in common."""
        ...

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series): the rows after the panel's last one, not falling over quantiles.

        NaN for a series whose past is too short to say anything.
        """
        ...

    def state(self) -> State:
        """A copy of what `fit` learnt, as arrays only: a stored model runs no code."""
        ...

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A forecaster that says what it forecasts from: a change of that is a change of the model's schema."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names, in the order in which they are used."""
        ...
