"""Base class of detector banks: per-series state in arrays, one slot a series, one compiled kernel.

A bank declares its state arrays in `fields` and provides one compiled kernel. All contract methods call
that kernel, which scores and learns any number of ticks, so `score`, `learn`, `step` and `run` agree.
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
    """Declares one array of a bank's state.

    dtype : NumPy type of the array
    fill  : value of a fresh slot
    shape : shape of one series' part; () = one number a series
    axis  : position of the series axis, 0 or -1 (season tables are read one row a tick and keep it last)
    """

    dtype: type[np.generic]
    fill: float = 0.0
    shape: tuple[int, ...] = ()
    axis: int = 0

    def full(self, n: int) -> npt.NDArray[np.generic]:
        """Return the array of n fresh series, filled with `fill`."""
        shape = (n, *self.shape) if self.axis == 0 else (*self.shape, n)
        return np.full(shape, self.fill, self.dtype)


class StateArrays:
    """Named state arrays with one series axis that can grow and be copied slot by slot.

    fields   : array name -> StateField
    n_series : number of slots

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
        """Extend every array to n slots in total. Raises ShapeError if n is below the current number."""
        n_new = n - self.n_series
        if n_new < 0:
            raise ShapeError(f"grow({n}): there are already {self.n_series} series; use reset to free slots")
        if n_new == 0:
            return
        for name, field in self.fields.items():
            self.values[name] = np.concatenate([self.values[name], field.full(n_new)], axis=field.axis)
        self.n_series = n

    def take(self, slots: Ints) -> State:
        """Return a copy of these slots' part of every array."""
        return {k: np.take(self.values[k], slots, axis=f.axis) for k, f in self.fields.items()}

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots. Raises StateError if fields, shapes or types of the state differ."""
        self._check(state, len(slots))
        for name, field in self.fields.items():
            if field.axis == 0:
                self.values[name][slots] = state[name]
            else:
                self.values[name][..., slots] = state[name]

    def reset(self, slots: Ints) -> None:
        """Set these slots back to the fill values."""
        self.put(slots, {k: f.full(len(slots)) for k, f in self.fields.items()})

    def state(self) -> State:
        """Return a copy of all arrays."""
        return {k: v.copy() for k, v in self.values.items()}

    def restore(self, state: State) -> None:
        """Replace all arrays and the number of series. Raises StateError if the state does not fit."""
        first, field = next(iter(self.fields.items()))
        n = state[first].shape[field.axis] if first in state and state[first].ndim else -1
        self._check(state, n)
        self.values = {k: np.ascontiguousarray(state[k]).copy() for k in self.fields}
        self.n_series = n

    def bytes_per_series(self) -> int:
        """Return the memory of one slot in bytes."""
        return sum(f.full(1).nbytes for f in self.fields.values())

    def _check(self, state: State, n: int) -> None:
        for name, field in self.fields.items():
            if name not in state:
                raise StateError(f"state has no field {name!r}; it has {sorted(state)}")
            expected, actual = field.full(max(n, 0)), state[name]
            if actual.shape != expected.shape or actual.dtype != expected.dtype:
                raise StateError(
                    f"field {name!r} is {actual.dtype} {actual.shape}; "
                    f"expected {expected.dtype} {expected.shape}"
                )


class Bank:
    """A detector that keeps its state in arrays and scores with one compiled kernel.

    Implements `trimtab.models.contracts.Detector`; a subclass provides `fields()` and `kernel()`.

    The kernel is called as
    `kernel(x, t, where, gate, learning, out, *arrays, *parameters())` with
    x (n_ticks, n_series) float64, t (n_ticks,) int64 ns, where (n_ticks, n_series) bool,
    gate (n_series,) float64, learning bool, out (n_ticks, n_series) float64, then the state
    arrays in the order of `fields()`. It updates the arrays in place only if `learning` is true.
    """

    level: str = "series"
    two_sided: bool = True
    restorable: bool = True
    version: ClassVar[int] = 1

    def __init__(self, n_series: int) -> None:
        self.arrays = StateArrays(self.fields(), n_series)

    def fields(self) -> dict[str, StateField]:
        """Return the declaration of every state array by name."""
        raise NotImplementedError

    def kernel(self) -> Callable[..., None]:
        """Return the compiled kernel."""
        raise NotImplementedError

    def parameters(self) -> tuple[Any, ...]:
        """Return the kernel arguments that follow the state arrays."""
        return ()

    @property
    def n_series(self) -> int:
        """Number of slots."""
        return self.arrays.n_series

    def score(self, x: Floats, t: int) -> Floats:
        """Return the statistics of one tick, (n_series,), without changing the state."""
        out: Floats = self._call(x[None, :], np.array([t], np.int64), None, None, learning=False)[0]
        return out

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Update the state with one tick."""
        self.step(x, t, where)

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Score one tick, then learn it; return the statistics, (n_series,)."""
        out: Floats = self._call(x[None, :], np.array([t], np.int64), where, gate, learning=True)[0]
        return out

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Run `step` over (n_ticks, n_series) values; return the statistics, (n_ticks, n_series)."""
        return self._call(x, t, where, gate, learning=True)

    def _call(
        self, x: Floats, t: Ints, where: Bools | None, gate: Floats | None, *, learning: bool
    ) -> Floats:
        if x.ndim != 2 or x.shape[1] != self.n_series or len(t) != len(x):
            raise ShapeError(
                f"values have shape {x.shape} for {len(t)} times; the bank has {self.n_series} series"
            )
        may_learn = np.array(np.broadcast_to(np.bool_(True) if where is None else where, x.shape))
        gates = np.full(self.n_series, np.inf) if gate is None else np.asarray(gate, np.float64)
        out = np.full(x.shape, np.nan)
        self.kernel()(
            np.require(x, np.float64, ["C", "W"]), np.require(t, np.int64, ["C", "W"]),
            may_learn, gates, learning, out, *self.arrays.values.values(), *self.parameters(),
        )  # fmt: skip
        return out

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:  # noqa: ARG002 - subclasses use it
        """Return None: the bank predicts no values unless a subclass overrides this method."""
        return None

    def grow(self, n: int) -> None:
        """Extend the bank to n slots in total."""
        self.arrays.grow(n)

    def take(self, slots: Ints) -> State:
        """Return a copy of the state of these slots."""
        return self.arrays.take(slots)

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite the state of these slots."""
        self.arrays.put(slots, state)

    def reset(self, slots: Ints) -> None:
        """Discard the learned state of these slots."""
        self.arrays.reset(slots)

    def state(self) -> State:
        """Return a copy of the whole state."""
        return self.arrays.state()

    def restore(self, state: State) -> None:
        """Replace the whole state by one that `state` returned."""
        self.arrays.restore(state)

    def bytes_per_series(self) -> int:
        """Return the memory of one slot in bytes."""
        return self.arrays.bytes_per_series()
