"""What every bank of detectors shares: state in arrays, slots that come and go, one kernel.

A bank names its arrays in `fields` and gives one compiled kernel; all methods of the contract
follow from the two. The kernel scores and learns any number of ticks, so that `score`, `learn`,
`step` and `run` cannot disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trimtab.models.contracts import Bools, Floats, Ints, State
from trimtab.models.errors import ShapeError, StateError


@dataclass(frozen=True, slots=True)
class StateField:
    """One array of a bank's state.

    shape : the shape of one series' part, () for a single number
    axis  : where the series axis stands, 0 or -1 (tables read one row a tick keep it last)
    """

    dtype: type[np.generic]
    fill: float = 0.0
    shape: tuple[int, ...] = ()
    axis: int = 0

    def full(self, n: int) -> npt.NDArray[np.generic]:
        """The array for n fresh series."""
        shape = (n, *self.shape) if self.axis == 0 else (*self.shape, n)
        return np.full(shape, self.fill, self.dtype)


class StateArrays:
    """Named arrays with one series axis: growing, taking, putting, resetting and restoring them.

    >>> a = StateArrays({"mean": StateField(np.float64)}, n_series=2)
    >>> a.values["mean"][:] = [1.0, 2.0]
    >>> a.put(np.array([0]), a.take(np.array([1])))
    >>> a.values["mean"].tolist()
    [2.0, 2.0]
    """

    def __init__(self, fields: dict[str, StateField], n_series: int) -> None:
        self.fields = fields
        self.n_series = n_series
        self.values: dict[str, npt.NDArray[Any]] = {k: f.full(n_series) for k, f in fields.items()}

    def grow(self, n: int) -> None:
        """Make room for n series in all. Raises ShapeError when n is smaller than now."""
        more = n - self.n_series
        if more < 0:
            raise ShapeError(f"grow({n}): there are {self.n_series} series already; use reset to free slots")
        if more == 0:
            return
        for name, field in self.fields.items():
            self.values[name] = np.concatenate([self.values[name], field.full(more)], axis=field.axis)
        self.n_series = n

    def take(self, slots: Ints) -> State:
        """A copy of these slots' part of every array."""
        return {k: np.take(self.values[k], slots, axis=f.axis) for k, f in self.fields.items()}

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots. Raises StateError when the state has other fields or shapes."""
        self._check(state, len(slots))
        for name, field in self.fields.items():
            if field.axis == 0:
                self.values[name][slots] = state[name]
            else:
                self.values[name][..., slots] = state[name]

    def reset(self, slots: Ints) -> None:
        """Make these slots as new."""
        self.put(slots, {k: f.full(len(slots)) for k, f in self.fields.items()})

    def state(self) -> State:
        """A copy of everything."""
        return {k: v.copy() for k, v in self.values.items()}

    def restore(self, state: State) -> None:
        """Replace everything, the number of series too."""
        first, field = next(iter(self.fields.items()))
        n = state[first].shape[field.axis] if first in state and state[first].ndim else -1
        self._check(state, n)
        self.values = {k: np.ascontiguousarray(state[k]).copy() for k in self.fields}
        self.n_series = n

    def bytes_per_series(self) -> int:
        """Bytes that one more series takes."""
        return sum(f.full(1).nbytes for f in self.fields.values())

    def _check(self, state: State, n: int) -> None:
        for name, field in self.fields.items():
            if name not in state:
                raise StateError(f"state has no field {name!r}; it has {sorted(state)}")
            want, got = field.full(max(n, 0)), state[name]
            if got.shape != want.shape or got.dtype != want.dtype:
                raise StateError(
                    f"field {name!r} is {got.dtype} {got.shape}, this bank wants {want.dtype} {want.shape}"
                )


class Bank:
    """A detector over arrays with one compiled kernel; see `trimtab.models.contracts.Detector`.

    A member gives `fields()` and `kernel()`. The kernel is called as
    `kernel(x, t, where, gate, learning, out, *arrays, *parameters())` with
    x (n_ticks, n_series) float64, t (n_ticks,) int64, where (n_ticks, n_series) bool,
    gate (n_series,) float64, learning bool, out (n_ticks, n_series) float64, then the state
    arrays in the order of `fields()`, updated in place only where `learning` is true.
    """

    level: str = "series"
    two_sided: bool = True
    restorable: bool = True
    version: ClassVar[int] = 1

    def __init__(self, n_series: int) -> None:
        self.arrays = StateArrays(self.fields(), n_series)

    def fields(self) -> dict[str, StateField]:
        """Name -> field of every state array."""
        raise NotImplementedError

    def kernel(self) -> Callable[..., None]:
        """The compiled kernel."""
        raise NotImplementedError

    def parameters(self) -> tuple[Any, ...]:
        """What the kernel gets behind the arrays."""
        return ()

    @property
    def n_series(self) -> int:
        """Series that the bank has room for."""
        return self.arrays.n_series

    def score(self, x: Floats, t: int) -> Floats:
        """The statistic of this tick, (n_series,); changes nothing."""
        out: Floats = self._call(x[None, :], np.array([t], np.int64), None, None, learning=False)[0]
        return out

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Take this tick into the state."""
        self.step(x, t, where)

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Score, then learn; the statistic, (n_series,)."""
        out: Floats = self._call(x[None, :], np.array([t], np.int64), where, gate, learning=True)[0]
        return out

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Repeated `step` over (n_ticks, n_series) values; the statistics, (n_ticks, n_series)."""
        return self._call(x, t, where, gate, learning=True)

    def _call(
        self, x: Floats, t: Ints, where: Bools | None, gate: Floats | None, *, learning: bool
    ) -> Floats:
        if x.ndim != 2 or x.shape[1] != self.n_series or len(t) != len(x):
            raise ShapeError(f"values are {x.shape} at {len(t)} times; the bank holds {self.n_series} series")
        everywhere = np.array(np.broadcast_to(np.bool_(True) if where is None else where, x.shape))
        gates = np.full(self.n_series, np.inf) if gate is None else np.asarray(gate, np.float64)
        out = np.full(x.shape, np.nan)
        self.kernel()(
            np.require(x, np.float64, ["C", "W"]), np.require(t, np.int64, ["C", "W"]),
            everywhere, gates, learning, out, *self.arrays.values.values(), *self.parameters(),
        )  # fmt: skip
        return out

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:  # noqa: ARG002 - members use it
        """No opinion, unless a member says otherwise."""
        return None

    def grow(self, n: int) -> None:
        """Make room for n series in all."""
        self.arrays.grow(n)

    def take(self, slots: Ints) -> State:
        """A copy of the state of these slots."""
        return self.arrays.take(slots)

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots."""
        self.arrays.put(slots, state)

    def reset(self, slots: Ints) -> None:
        """Forget what these slots learnt."""
        self.arrays.reset(slots)

    def state(self) -> State:
        """A copy of the whole state."""
        return self.arrays.state()

    def restore(self, state: State) -> None:
        """Go on where `state` was taken."""
        self.arrays.restore(state)

    def bytes_per_series(self) -> int:
        """Bytes that one more series takes."""
        return self.arrays.bytes_per_series()
