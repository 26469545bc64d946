"""Protocols of detectors and forecasters, and the array types that they exchange."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
State = dict[str, npt.NDArray[np.generic]]
"""Named arrays: the state of a whole bank from `state`, or of some slots from `take`."""


@runtime_checkable
class Detector(Protocol):
    """A streaming detector that holds the state of `n_series` series in arrays.

    x     : (n_series,) float64 in each series' own unit, NaN = no sample this tick
    t     : int64, nanoseconds UTC of the tick; part of the data, never read from a clock
    where : (n_series,) bool, series that may learn this tick; None = all
    gate  : (n_series,) float64, no learning if abs(statistic) > gate; None = no gate

    A statistic is (n_series,) float64; larger values are more unusual. A `two_sided` detector returns signed
    statistics, and large negative values are unusual too. NaN = no sample, or still warming up.
    Infinite = a deviation from a series that never varied. Non-finite samples count as missing.
    Every sample is scored before it is learnt.
    """

    n_series: int
    level: str
    """"series", or "entity": then the detector also takes `entity_of_slot`, (n_series,) int32."""
    two_sided: bool
    restorable: bool
    """False: `state` and `restore` raise StateError, and the state is rebuilt by replaying stored ticks."""

    def score(self, x: Floats, t: int) -> Floats:
        """Return the statistics of this tick without changing the state."""
        ...

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Update the state with this tick."""
        ...

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Score, then learn, in one pass."""
        ...

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Run `step` over (n_ticks, n_series) values and (n_ticks,) times in one call.

        where : (n_series,) or (n_ticks, n_series) bool
        """
        ...

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:
        """Return (yhat, lower, upper), each (n_series,), for the tick at t; None if it predicts no values."""
        ...

    def grow(self, n: int) -> None:
        """Extend the detector to n slots in total; new slots are in the state after `reset`."""
        ...

    def take(self, slots: Ints) -> State:
        """Return a copy of the state of these slots."""
        ...

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with a state from `take`."""
        ...

    def reset(self, slots: Ints) -> None:
        """Discard the learned state of these slots."""
        ...

    def state(self) -> State:
        """Return a copy of the whole state."""
        ...

    def restore(self, state: State) -> None:
        """Replace the whole state by one from `state`. Raises StateError if it does not fit."""
        ...

    def bytes_per_series(self) -> int:
        """Return the memory of one more series in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Panel:
    """History of many series on grids with one step, aligned at their last rows.

    y            : (n_steps, n_series) float64 in each series' own unit; NaN = no sample, or before its start
    end          : (n_series,) int64, nanoseconds UTC of each series' last row
    step_s       : seconds between rows
    non_negative : (n_series,) bool, series whose unit excludes negative values
    events       : (n_steps + n_ahead, n_series) bool, holidays and other known days in the history and the
                   forecast period; None = no known days
    """

    y: Floats
    end: Ints
    step_s: float
    non_negative: Bools
    events: Bools | None = None

    def select(self, columns: Ints) -> "Panel":
        """Return a panel of these series."""
        events = None if self.events is None else self.events[:, columns]
        y = np.ascontiguousarray(self.y[:, columns])
        return Panel(y, self.end[columns], self.step_s, self.non_negative[columns], events)


@runtime_checkable
class Forecaster(Protocol):
    """A load forecaster: `fit` learns what all series share, `predict` adapts to each series' history."""

    def fit(self, panel: Panel) -> None:
        """Learn what the series of a panel have in common."""
        ...

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series) forecasts for the rows after the panel's last row.

        Values do not decrease with the quantile. NaN for a series with too little history.
        """
        ...

    def state(self) -> State:
        """Return a copy of what `fit` learnt as arrays only, so that loading a stored model runs no code."""
        ...

    def restore(self, state: State) -> None:
        """Replace the learned state by one from `state`. Raises StateError if it does not fit."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A forecaster that reports its input features; changed features mean a changed model schema."""

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names in the order in which the model uses them."""
        ...
