"""River detectors and forecasters as a bank: one river object per series or per entity.

River's objects are slow and large compared to arrays (18,000 points/s and 1 MB for half-space trees). Use
them for a few hundred series, or for an algorithm that has no bank. Importing this module does not import
river (4 s, 95 MB); creating a bank does.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from trimtab.models.contracts import Bools, Floats, Ints, State
from trimtab.models.errors import ModelError, ShapeError, StateError, UnknownModelError

DEFAULT_SEED = 42
"""Seed of a model that has none: the state is restored by replay, which must draw the same numbers."""
MIN_WARM_UP = 10
"""Minimum warm-up in samples unless `warm_up` is given."""
WARM_UP_PARAMETERS = ("window_size", "grace_period", "warmup_period", "n_neighbors", "seasonality", "m")
"""River's parameter names for the number of samples that a model needs."""


class RiverBank:
    """River objects with the interface of `trimtab.models.contracts.Detector`.

    model : a name ("LODA", "anomaly.LODA", "time_series.HoltWinters"), a river estimator, which is cloned,
            or a class or function that returns one and takes **parameters
    feature : key of a series' value in the dict passed to river
    scale   : put a river MinMaxScaler before the model, for models that need values between 0 and 1
    warm_up : samples to learn before the first statistic; None = the model's window or season, at least 10
    entity_of_slot : (n_series,) int32; series of one entity share one object, which gets all their values
            keyed by slot number; -1 = not assigned, NaN; None = one object per series

    The statistic is river's score; of a forecaster it is abs(value - forecast of this tick). The state stays
    in the process: `restorable` is False, `state` raises StateError, and a restart replays the stored ticks.
    `take` and `put` copy whole objects (0.25 s each for half-space trees).

    Raises UnknownModelError for a name that river does not have, ModelError for an object that is not one.

    >>> bank = RiverBank(2, "HalfSpaceTrees", n_trees=5, height=3, window_size=3, warm_up=0)
    >>> for value in (0.5, 0.45, 0.43):
    ...     bank.learn(np.array([value, value]), 0)
    >>> bank.score(np.array([0.44, 0.0]), 0).round(2).tolist()
    [0.11, 0.85]
    """

    two_sided = False
    restorable = False
    name = "river"
    """Name of this detector in a scorer."""

    def __init__(
        self,
        n_series: int,
        model: Any = "HalfSpaceTrees",  # noqa: ANN401 - river is not imported here
        *,
        feature: str = "x",
        scale: bool = False,
        warm_up: int | None = None,
        entity_of_slot: npt.ArrayLike | None = None,
        **parameters: Any,  # noqa: ANN401 - river's
    ) -> None:
        self.prototype = _make_prototype(model, parameters, scale=scale)
        self.model_kind = _model_kind(self.prototype)
        self.feature = feature
        self.warm_up = _default_warm_up(self.prototype) if warm_up is None else warm_up
        self.level = "series" if entity_of_slot is None else "entity"
        if self.level == "entity" and self.model_kind != "anomaly":
            raise ModelError(f"river: {self.prototype} takes one value at a time and cannot watch an entity")
        self.n_series = n_series
        self.entity_of_slot = np.arange(n_series, dtype=np.int32)
        self._models: dict[int, Any] = {}
        self._sample_counts: dict[int, int] = {}
        if entity_of_slot is not None:
            self.assign_entities(np.arange(n_series), entity_of_slot)

    def move_from(self, other: "RiverBank", source_slots: Ints, slots: Ints) -> None:
        """Move the objects of another bank's `source_slots` to the slots `slots` without copying them."""
        for source_slot, slot in zip(source_slots.tolist(), slots.tolist(), strict=True):
            entity = int(self.entity_of_slot[slot])
            self._forget(entity)
            model, learnt = other.release(source_slot)
            if model is not None:
                self._models[entity], self._sample_counts[entity] = model, learnt

    def release(self, slot: int) -> tuple[Any, int]:
        """Remove the object of a slot; return it (None if nothing is learnt) and its number of samples."""
        entity = int(self.entity_of_slot[slot])
        return self._models.pop(entity, None), self._sample_counts.pop(entity, 0)

    def assign_entities(self, slots: Ints, entities: npt.ArrayLike) -> None:
        """Assign slots to entities; -1 = none."""
        assigned = np.asarray(entities, np.int32)
        if assigned.shape != np.shape(slots):
            raise ShapeError(
                f"got {assigned.shape} entities for {np.shape(slots)} slots; give one entity per slot"
            )
        self.entity_of_slot[slots] = assigned

    def score(self, x: Floats, t: int) -> Floats:  # noqa: ARG002 - part of the contract
        """Return the statistics of one tick, (n_series,), without changing the state."""
        out = np.full(self.n_series, np.nan)
        for entity, slots, values in self._present_values(x):
            out[slots] = self._score(entity, values, keep_state=True)
        return out

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Update the objects with one tick."""
        self.step(x, t, where)

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:  # noqa: ARG002 - part of the contract
        """Score, then learn; an entity learns only if all its present series may."""
        out = np.full(self.n_series, np.nan)
        for entity, slots, values in self._present_values(x):
            s = out[slots] = self._score(entity, values, keep_state=False)
            is_masked = where is not None and not np.all(where[slots])
            if not is_masked and not (gate is not None and bool(np.any(abs(s) > gate[slots]))):
                self._learn(entity, values)
        return out

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Run `step` over (n_ticks, n_series) values; return the statistics, (n_ticks, n_series)."""
        if len(t) != len(x):
            raise ShapeError(f"values have shape {np.shape(x)} for {len(t)} times; give one time per row")
        masks = [None] * len(x) if where is None else np.broadcast_to(where, np.shape(x))
        rows = [self.step(row, int(at), mask, gate) for row, at, mask in zip(x, t, masks, strict=True)]
        return np.array(rows).reshape(len(x), self.n_series)

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:  # noqa: ARG002 - part of the contract
        """Return a forecaster's predictions with an unknown (NaN) band; None for other models."""
        if self.model_kind != "forecaster":
            return None
        yhat, unknown = np.full(self.n_series, np.nan), np.full(self.n_series, np.nan)
        for entity, model in self._models.items():
            if self._sample_counts[entity] >= self.warm_up:
                yhat[entity] = model.forecast(1)[0]
        return yhat, unknown, unknown.copy()

    def grow(self, n: int) -> None:
        """Extend to n slots in total; in an entity bank the new slots are not assigned yet."""
        if n < self.n_series:
            raise ShapeError(f"grow({n}): there are already {self.n_series} series; use reset to free slots")
        new = np.arange(self.n_series, n, dtype=np.int32)
        entities = new if self.level == "series" else np.full_like(new, -1)
        self.entity_of_slot = np.concatenate([self.entity_of_slot, entities])
        self.n_series = n

    def take(self, slots: Ints) -> State:
        """Return copies of the objects of these slots, None if nothing is learnt; not for storage."""
        entities = [int(e) for e in self.entity_of_slot[slots]]
        models = np.empty(len(entities), object)
        models[:] = copy.deepcopy([self._models.get(e) for e in entities])
        return {
            "model": models,
            "learnt": np.array([self._sample_counts.get(e, 0) for e in entities], np.int64),
        }

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite the objects of these slots with copies. Raises StateError if the state does not fit."""
        if set(state) != {"model", "learnt"} or len(state["model"]) != len(slots):
            raise StateError(
                f"river: state has {sorted(state)}; expected model and learnt of {len(slots)} slots"
            )
        for slot, model, learnt in zip(
            slots, copy.deepcopy(list(state["model"])), state["learnt"], strict=True
        ):
            entity = int(self.entity_of_slot[slot])
            self._forget(entity)
            if model is not None:
                self._models[entity], self._sample_counts[entity] = model, int(learnt)

    def reset(self, slots: Ints) -> None:
        """Discard the learned state of these series; an entity's object goes with its last slot."""
        for entity in {int(e) for e in self.entity_of_slot[slots]}:
            if np.isin(np.flatnonzero(self.entity_of_slot == entity), slots).all():
                self._forget(entity)

    def state(self) -> NoReturn:
        """Raise StateError; see `restorable`."""
        raise StateError(
            f"river: {self.prototype} cannot be stored; check `restorable` and replay the stored ticks"
        )

    def restore(self, state: State) -> NoReturn:
        """Raise StateError; see `restorable`."""
        raise StateError(f"river: {self.prototype} cannot be restored from {sorted(state)}; replay the ticks")

    def bytes_per_series(self) -> int:
        """Return the size in bytes of the largest object, as measured by river."""
        sizes = [m._raw_memory_usage for m in self._models.values()]  # noqa: SLF001 - river has no public method
        return int(max(sizes, default=0))

    def _present_values(self, x: Floats) -> Iterator[tuple[int, Ints, dict[str, float]]]:
        """Yield (entity, its slots with a finite value, these values by feature name)."""
        if x.shape != (self.n_series,):
            raise ShapeError(f"values have shape {x.shape}; the bank has {self.n_series} series")
        present = np.flatnonzero(np.isfinite(x) & (self.entity_of_slot >= 0))
        if self.level == "series":
            for slot in present:
                yield int(slot), np.array([slot]), {self.feature: float(x[slot])}
            return
        for entity in np.unique(self.entity_of_slot[present]):
            slots = present[self.entity_of_slot[present] == entity]
            yield int(entity), slots, {str(s): float(x[s]) for s in slots}

    def _score(self, entity: int, values: dict[str, float], *, keep_state: bool) -> float:
        model = self._models.get(entity)
        if model is None or self._sample_counts[entity] < self.warm_up:
            return math.nan
        if self.model_kind == "anomaly":
            return float(model.score_one(values))
        value = values[self.feature]
        if self.model_kind == "forecaster":
            return abs(value - float(model.forecast(1)[0]))
        if keep_state:  # river's PredictiveAnomalyDetection learns when it scores
            model = copy.deepcopy(model)
        return float(model.score_one({}, value))

    def _learn(self, entity: int, values: dict[str, float]) -> None:
        if entity not in self._models:
            self._models[entity], self._sample_counts[entity] = self.prototype.clone(), 0
        model = self._models[entity]
        self._sample_counts[entity] += 1
        if self.model_kind == "anomaly":
            model.learn_one(values)
        elif self.model_kind == "forecaster":
            model.learn_one(values[self.feature])
        else:
            model.learn_one({}, values[self.feature])

    def _forget(self, entity: int) -> None:
        self._models.pop(entity, None)
        self._sample_counts.pop(entity, None)


def river_detector(
    n_series: int,
    model: Any,  # noqa: ANN401 - river is not imported here
    name: str,
    **parameters: Any,  # noqa: ANN401 - river's
) -> RiverBank:
    """Create a named bank of a river detector; half-space trees get a scaler to 0..1."""
    scale = isinstance(model, str) and model.endswith("HalfSpaceTrees")
    bank = RiverBank(n_series, model, scale=scale, **parameters)
    bank.name = name
    return bank


def _make_prototype(model: Any, parameters: dict[str, Any], *, scale: bool) -> Any:  # noqa: ANN401 - river's
    """Return the estimator that is cloned for every series, with a seed if it draws random numbers."""
    from river import preprocessing
    from river.base import Estimator

    factory: Callable[..., Any] | None = _find_river_class(model) if isinstance(model, str) else None
    if factory is None and callable(model):
        factory = model
    if factory is None and parameters:
        raise ModelError(f"river: {model} already exists; set {parameters} when creating it")
    estimator = model if factory is None else factory(**parameters)
    if not isinstance(estimator, Estimator):
        raise ModelError(
            f"river: {estimator!r} is not a river estimator; give a name, an estimator or a factory"
        )
    if scale:
        estimator = preprocessing.MinMaxScaler() | estimator
    return estimator.clone(_with_seeds(estimator._get_params()))  # noqa: SLF001 - as river's own clone does


def _with_seeds(parameters: Any) -> Any:  # noqa: ANN401 - river's nested parameters
    """Return the same parameters with `DEFAULT_SEED` where a seed is missing."""
    if isinstance(parameters, tuple) and len(parameters) == 2 and isinstance(parameters[1], dict):
        return parameters[0], _with_seeds(parameters[1])
    if not isinstance(parameters, dict):
        return parameters
    missing = {k: DEFAULT_SEED for k, v in parameters.items() if k == "seed" and v is None}
    return {k: _with_seeds(v) for k, v in parameters.items()} | missing


def _find_river_class(name: str) -> Callable[..., Any]:
    """Return river's class with this name. Raises UnknownModelError."""
    from river import anomaly, time_series

    modules = {"anomaly": anomaly, "time_series": time_series}
    short_name = name.removeprefix("river.")
    classes = [
        (module_name, name, getattr(module, name))
        for module_name, module in modules.items()
        for name in module.__all__
    ]
    known = {
        f"{module_name}.{name}": member for module_name, name, member in classes if hasattr(member, "clone")
    }
    for full, found in known.items():
        if short_name in (full, full.rpartition(".")[2]):
            factory: Callable[..., Any] = found
            return factory
    raise UnknownModelError(
        f"river has no detector or forecaster {name!r}. Available: {', '.join(sorted(known))}"
    )


def _model_kind(model: Any) -> str:  # noqa: ANN401 - river's
    """Return the interface of a river model: "anomaly", "supervised" or "forecaster"."""
    from river import base, time_series

    last = list(model.steps.values())[-1] if hasattr(model, "steps") else model
    if isinstance(last, base.AnomalyFilter):
        return _model_kind(last.anomaly_detector)
    if isinstance(model, base.AnomalyDetector):
        return "anomaly"
    if isinstance(model, base.SupervisedAnomalyDetector):
        return "supervised"
    if isinstance(model, time_series.base.Forecaster):
        return "forecaster"
    raise ModelError(f"river: {model} is neither an anomaly detector nor a forecaster")


def _default_warm_up(model: Any) -> int:  # noqa: ANN401 - river's
    last = list(model.steps.values())[-1] if hasattr(model, "steps") else model
    return max(MIN_WARM_UP, *(int(getattr(last, name, 0) or 0) for name in WARM_UP_PARAMETERS))
