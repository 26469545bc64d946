"""Checks on arrays that a forecaster is restored from."""

from collections.abc import Mapping

import numpy as np

from trimtab.models.contracts import State
from trimtab.models.errors import StateError


def check_arrays(state: State, shapes: Mapping[str, tuple[int, ...]], of: str) -> None:
    """Raise StateError unless these float64 arrays are there, of these shapes (-1 = any) and finite."""
    for name, shape in shapes.items():
        if name not in state:
            raise StateError(f"{of}: the state has no array {name!r}; it has {sorted(state)}")
        got = state[name]
        fits = got.ndim == len(shape) and all(w in (-1, g) for w, g in zip(shape, got.shape, strict=True))
        if got.dtype != np.float64 or not fits:
            raise StateError(f"{of}: {name!r} is {got.dtype} {got.shape}, wanted float64 {shape}")
        if not np.isfinite(got).all():
            raise StateError(f"{of}: {name!r} holds numbers that are not finite")
