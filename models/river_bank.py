"""Any river detector or forecaster as a member of a bank: one object a series, or one an entity.

River's objects are slow and large beside an array (18,000 points/s and 1 MB for half-space trees), so this
is for a few hundred series, or for an algorithm that has no bank yet. Importing this module does not import
river (4 s, 95 MB); making a bank does.
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
"""Given to a model that has none: its state comes back by replay, so it must draw the same again."""
MIN_WARM_UP = 10
"""Samples to learn first, at least, where the model does not say itself."""
WARM_UP_PARAMETERS = ("window_size", "grace_period", "warmup_period", "n_neighbors", "seasonality", "m")
"""River's names for how many samples a model has to see."""


class RiverBank:
    """River objects behind the contract of `trimtab.models.contracts.Detector`.

    model : a name ("LODA", "anomaly.LODA", "time_series.HoltWinters"), or a river estimator, which is cloned,
            or a class or function that gives one; **parameters go to the class or function
    feature : what a series' value is called in the dict that river sees
    scale   : a river MinMaxScaler before the model, for those that want values between 0 and 1
    warm_up : samples to learn before there is a statistic; None = the model's own window or season, or 10
    entity_of_slot : (n_series,) int32, None = each series by itself. Series of one entity share one object,
            which sees them all, each by the name of its slot; -1 = not assigned yet, NaN

    The statistic is river's score; of a forecaster it is abs(value - forecast of this tick). A river state
    does not leave the process: `restorable` is False, `state` raises, and the way back is a replay of the
    stored ticks. `take` and `put` copy whole objects (0.25 s each for half-space trees).

    Raises UnknownModelError for a name that river does not have, ModelError for what is no detector.

    >>> bank = RiverBank(2, "HalfSpaceTrees", n_trees=5, height=3, window_size=3, warm_up=0)
    >>> for value in (0.5, 0.45, 0.43):
    ...     bank.learn(np.array([value, value]), 0)
    >>> bank.score(np.array([0.44, 0.0]), 0).round(2).tolist()
    [0.11, 0.85]
    """

    two_sided = False
    restorable = False
    name = "river"
    """How a scorer tells its members apart."""

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
            raise ModelError(f"river: {self.prototype} takes one value at a time; it cannot watch an entity")
        self.n_series = n_series
        self.entity_of_slot = np.arange(n_series, dtype=np.int32)
        self._models: dict[int, Any] = {}
        self._sample_counts: dict[int, int] = {}
        if entity_of_slot is not None:
            self.assign_entities(np.arange(n_series), entity_of_slot)

    def adopt(self, other: "RiverBank", theirs: Ints, mine: Ints) -> None:
        """Go on with the objects that another bank has for its slots `theirs`; it loses them.

        What `take` and `put` do, but nothing is copied.
        """
        for slot, own in zip(theirs.tolist(), mine.tolist(), strict=True):
            entity = int(self.entity_of_slot[own])
            self._forget(entity)
            model, learnt = other.release(slot)
            if model is not None:
                self._models[entity], self._sample_counts[entity] = model, learnt

    def release(self, slot: int) -> tuple[Any, int]:
        """The object of a slot, None where nothing was learnt, and its samples; the bank loses it."""
        entity = int(self.entity_of_slot[slot])
        return self._models.pop(entity, None), self._sample_counts.pop(entity, 0)

    def assign_entities(self, slots: Ints, entities: npt.ArrayLike) -> None:
        """Say to which entities these slots belong; -1 = none."""
        given = np.asarray(entities, np.int32)
        if given.shape != np.shape(slots):
            raise ShapeError(f"entities are {given.shape} for {np.shape(slots)} slots; give one a slot")
        self.entity_of_slot[slots] = given

    def score(self, x: Floats, t: int) -> Floats:  # noqa: ARG002 - the contract's
        """The statistic of this tick, (n_series,); changes nothing."""
        out = np.full(self.n_series, np.nan)
        for entity, slots, values in self._present_values(x):
            out[slots] = self._score(entity, values, pure=True)
        return out

    def learn(self, x: Floats, t: int, where: Bools | None = None) -> None:
        """Take this tick into the objects."""
        self.step(x, t, where)

    def step(self, x: Floats, t: int, where: Bools | None = None, gate: Floats | None = None) -> Floats:  # noqa: ARG002 - the contract's
        """Score, then learn; an entity learns where all its present series may."""
        out = np.full(self.n_series, np.nan)
        for entity, slots, values in self._present_values(x):
            s = out[slots] = self._score(entity, values, pure=False)
            barred = where is not None and not np.all(where[slots])
            if not barred and not (gate is not None and bool(np.any(abs(s) > gate[slots]))):
                self._learn(entity, values)
        return out

    def run(self, x: Floats, t: Ints, where: Bools | None = None, gate: Floats | None = None) -> Floats:
        """Repeated `step` over (n_ticks, n_series) values; the statistics, (n_ticks, n_series)."""
        if len(t) != len(x):
            raise ShapeError(f"values are {np.shape(x)} at {len(t)} times")
        masks = [None] * len(x) if where is None else np.broadcast_to(where, np.shape(x))
        rows = [self.step(row, int(at), mask, gate) for row, at, mask in zip(x, t, masks, strict=True)]
        return np.array(rows).reshape(len(x), self.n_series)

    def expected(self, t: int) -> tuple[Floats, Floats, Floats] | None:  # noqa: ARG002 - the contract's
        """A forecaster's forecast, with an unknown band; of other models nothing."""
        if self.model_kind != "forecaster":
            return None
        yhat, unknown = np.full(self.n_series, np.nan), np.full(self.n_series, np.nan)
        for entity, model in self._models.items():
            if self._sample_counts[entity] >= self.warm_up:
                yhat[entity] = model.forecast(1)[0]
        return yhat, unknown, unknown.copy()

    def grow(self, n: int) -> None:
        """Make room for n series in all; of entities, the new slots are not assigned yet."""
        if n < self.n_series:
            raise ShapeError(f"grow({n}): there are {self.n_series} series already; use reset to free slots")
        new = np.arange(self.n_series, n, dtype=np.int32)
        entities = new if self.level == "series" else np.full_like(new, -1)
        self.entity_of_slot = np.concatenate([self.entity_of_slot, entities])
        self.n_series = n

    def take(self, slots: Ints) -> State:
        """Copies of the objects of these slots, None where nothing was learnt; for `put`, not for storing."""
        entities = [int(e) for e in self.entity_of_slot[slots]]
        models = np.empty(len(entities), object)
        models[:] = copy.deepcopy([self._models.get(e) for e in entities])
        return {
            "model": models,
            "learnt": np.array([self._sample_counts.get(e, 0) for e in entities], np.int64),
        }

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite the objects of these slots by copies. Raises StateError for another bank's state."""
        if set(state) != {"model", "learnt"} or len(state["model"]) != len(slots):
            raise StateError(
                f"river: state has {sorted(state)}, not the model and learnt of {len(slots)} slots"
            )
        for slot, model, learnt in zip(
            slots, copy.deepcopy(list(state["model"])), state["learnt"], strict=True
        ):
            entity = int(self.entity_of_slot[slot])
            self._forget(entity)
            if model is not None:
                self._models[entity], self._sample_counts[entity] = model, int(learnt)

    def reset(self, slots: Ints) -> None:
        """Forget these series; an entity's object goes with the last of its slots."""
        for entity in {int(e) for e in self.entity_of_slot[slots]}:
            if np.isin(np.flatnonzero(self.entity_of_slot == entity), slots).all():
                self._forget(entity)

    def state(self) -> NoReturn:
        """Raises StateError: see `restorable`."""
        raise StateError(
            f"river: {self.prototype} cannot be stored; ask `restorable` first and replay the stored ticks"
        )

    def restore(self, state: State) -> NoReturn:
        """Raises StateError: see `restorable`."""
        raise StateError(f"river: {self.prototype} cannot be restored from {sorted(state)}; replay the ticks")

    def bytes_per_series(self) -> int:
        """Size of the largest object now, as river reckons it."""
        sizes = [m._raw_memory_usage for m in self._models.values()]  # noqa: SLF001 - river's only way
        return int(max(sizes, default=0))

    def _present_values(self, x: Floats) -> Iterator[tuple[int, Ints, dict[str, float]]]:
        """(entity, its slots that have a finite value, these values by feature)."""
        if x.shape != (self.n_series,):
            raise ShapeError(f"values are {x.shape}; the bank holds {self.n_series} series")
        there = np.flatnonzero(np.isfinite(x) & (self.entity_of_slot >= 0))
        if self.level == "series":
            for slot in there:
                yield int(slot), np.array([slot]), {self.feature: float(x[slot])}
            return
        for entity in np.unique(self.entity_of_slot[there]):
            slots = there[self.entity_of_slot[there] == entity]
            yield int(entity), slots, {str(s): float(x[s]) for s in slots}

    def _score(self, entity: int, values: dict[str, float], *, pure: bool) -> float:
        model = self._models.get(entity)
        if model is None or self._sample_counts[entity] < self.warm_up:
            return math.nan
        if self.model_kind == "anomaly":
            return float(model.score_one(values))
        value = values[self.feature]
        if self.model_kind == "forecaster":
            return abs(value - float(model.forecast(1)[0]))
        if pure:  # river's PredictiveAnomalyDetection learns while it scores
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
    """A bank of river's detector under a name of its own; half-space trees stand behind a scaler to 0..1."""
    scale = isinstance(model, str) and model.endswith("HalfSpaceTrees")
    bank = RiverBank(n_series, model, scale=scale, **parameters)
    bank.name = name
    return bank


def _make_prototype(model: Any, parameters: dict[str, Any], *, scale: bool) -> Any:  # noqa: ANN401 - river's
    """The estimator that is cloned for every series, with a seed if it draws."""
    from river import preprocessing
    from river.base import Estimator

    make: Callable[..., Any] | None = _find_river_class(model) if isinstance(model, str) else None
    if make is None and callable(model):
        make = model
    if make is None and parameters:
        raise ModelError(f"river: {parameters} cannot change {model}, which is made already; set them there")
    made = model if make is None else make(**parameters)
    if not isinstance(made, Estimator):
        raise ModelError(f"river: {made!r} is no river estimator; give a name, an estimator or a factory")
    if scale:
        made = preprocessing.MinMaxScaler() | made
    return made.clone(_with_seeds(made._get_params()))  # noqa: SLF001 - what river's own clone goes by


def _with_seeds(parameters: Any) -> Any:  # noqa: ANN401 - river's nest of classes and their parameters
    """The same parameters, `SEED` where a seed is missing."""
    if isinstance(parameters, tuple) and len(parameters) == 2 and isinstance(parameters[1], dict):
        return parameters[0], _with_seeds(parameters[1])
    if not isinstance(parameters, dict):
        return parameters
    missing = {k: DEFAULT_SEED for k, v in parameters.items() if k == "seed" and v is None}
    return {k: _with_seeds(v) for k, v in parameters.items()} | missing


def _find_river_class(name: str) -> Callable[..., Any]:
    """River's class of that name."""
    from river import anomaly, time_series

    rooms = {"anomaly": anomaly, "time_series": time_series}
    wanted = name.removeprefix("river.")
    classes = [
        (room, name, getattr(module, name)) for room, module in rooms.items() for name in module.__all__
    ]
    known = {f"{room}.{name}": made for room, name, made in classes if hasattr(made, "clone")}
    for full, found in known.items():
        if wanted in (full, full.rpartition(".")[2]):
            make: Callable[..., Any] = found
            return make
    raise UnknownModelError(
        f"river has no detector or forecaster {name!r}; it has {', '.join(sorted(known))}"
    )


def _model_kind(model: Any) -> str:  # noqa: ANN401 - river's
    """How it is spoken to: "anomaly", "supervised" or "forecaster"."""
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
