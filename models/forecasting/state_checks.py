"""Checks of the arrays from which a forecaster is restored."""

from collections.abc import Mapping

import numpy as np

from trimtab.models.contracts import State
from trimtab.models.errors import StateError


def check_arrays(state: State, shapes: Mapping[str, tuple[int, ...]], of: str) -> None:
    """Raise StateError unless the state has these float64 arrays, finite, of these shapes (-1 = any length).

    of : name of the model part, for the message
    """
    for name, shape in shapes.items():
        if name not in state:
            raise StateError(f"{of}: array {name!r} is missing; the state has {sorted(state)}")
        array = state[name]
        fits = array.ndim == len(shape) and all(w in (-1, g) for w, g in zip(shape, array.shape, strict=True))
        if array.dtype != np.float64 or not fits:
            raise StateError(f"{of}: array {name!r} is {array.dtype} {array.shape}; expected float64 {shape}")
        if not np.isfinite(array).all():
            raise StateError(f"{of}: array {name!r} has non-finite values")
