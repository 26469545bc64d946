"""Models from notebooks as load forecasters: scikit-learn by skops, river by parameters.

Neither is ever a pickle: skops opens only types that it knows as harmless, or that are trusted by name, and
of a river model only its class and parameters are stored; it learns the recorded past again.
"""

import importlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trimtab.models.contracts import Floats, Forecaster, Ints, Panel, State
from trimtab.pipelines.errors import InputError, ModelRefusedError
from trimtab.pipelines.forecasting.regression_features import (
    FEATURES,
    regression_features,
    regression_targets,
    series_levels,
)
from trimtab.pipelines.model_registry.artifact import SKOPS_FILE, StoredModel

_BUCKETS, _ROWS, _ORIGINS = 8, 60_000, 40
_LEVELS = np.linspace(0.005, 0.995, 199)
_RIVER = re.compile(r"river(\.[a-z_]\w*)+\.[A-Z]\w*")


class RegressorForecaster:
    """A scikit-learn regressor over `features.FEATURES`; its own errors on later windows spread the forecast.

    model : fitted or not; it is cloned and fitted anew
    """

    def __init__(self, model: Any, horizon: int, error_quantiles: Floats | None = None) -> None:  # noqa: ANN401 - scikit-learn has no types
        self.model = model
        self.horizon = horizon
        self.error_quantiles = error_quantiles
        """(n_buckets, n_levels) quantiles of errors by how far ahead, in levels of a series."""

    def fit(self, panel: Panel) -> None:
        """Fit on the earlier windows, take errors of the later ones, then fit on all."""
        from sklearn.base import clone

        tables = _windows(panel, self.horizon)
        if not tables:
            raise InputError(f"the history has {len(panel.y)} rows; wanted are more than {2 * self.horizon}")
        cut = max(len(tables) * 3 // 4, 1)
        held = clone(self.model).fit(*_stacked(tables[:cut]))
        self.error_quantiles = self._errors(held, tables[cut:] or tables)
        self.model = clone(self.model).fit(*_stacked(tables))

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series)."""
        assert self.error_quantiles is not None  # noqa: S101 - fitted or restored before
        ahead = np.arange(1, horizon + 1)
        n, level = panel.y.shape[1], series_levels(panel.y, panel.step_s)
        middle = np.asarray(self.model.predict(regression_features(panel, ahead)), np.float64).reshape(
            n, horizon
        )
        spread = np.stack([np.interp(quantiles, _LEVELS, row) for row in self.error_quantiles])[
            self._bucket(ahead)
        ]
        out = (middle[None] + spread.T[:, None, :]) * level[None, :, None]
        out = np.where(panel.non_negative[None, :, None], np.maximum(out, 0.0), out)
        return np.asarray(out.transpose(0, 2, 1), np.float64)

    def state(self) -> State:
        """What it learnt is no set of arrays: it is stored by skops."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing is kept in arrays."""

    def _bucket(self, ahead: Ints) -> Ints:
        return np.asarray(np.minimum((ahead - 1) * _BUCKETS // self.horizon, _BUCKETS - 1), np.int64)

    def _errors(self, model: Any, tables: list[tuple[Floats, Floats, Ints]]) -> Floats:  # noqa: ANN401 - as above
        x, y = _stacked(tables)
        off, bucket = y - model.predict(x), self._bucket(np.concatenate([ahead for _, _, ahead in tables]))
        whole = np.quantile(off, _LEVELS)
        rows = [off[bucket == k] for k in range(_BUCKETS)]
        return np.stack([np.quantile(row, _LEVELS) if len(row) > 20 else whole for row in rows])


class ReplayedRiverForecaster:
    """A river forecaster, one a series, that learns the panel's past at each forecast.

    Its errors on the last horizon of the past spread the forecast.
    """

    def __init__(self, path: str, parameters: Mapping[str, Any]) -> None:
        self.path = path
        self.parameters = dict(parameters)

    def fit(self, panel: Panel) -> None:
        """What series have in common is not learnt."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series)."""
        out = np.full((len(quantiles), horizon, panel.y.shape[1]), np.nan)
        for series, column in enumerate(panel.y.T):
            known = column[np.isfinite(column)]
            if len(known) > 2 * horizon:
                out[:, :, series] = self._one(known, horizon, quantiles)
        out = np.where(panel.non_negative[None, None, :], np.maximum(out, 0.0), out)
        return np.asarray(out, np.float64)

    def state(self) -> State:
        """Nothing: it learns the past again."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing is kept."""

    def _one(self, y: Floats, horizon: int, quantiles: Sequence[float]) -> Floats:
        model = river_class(self.path)(**self.parameters)
        for value in y[:-horizon].tolist():
            model.learn_one(value)
        off = np.quantile(y[-horizon:] - np.array(model.forecast(horizon)), quantiles)
        for value in y[-horizon:].tolist():
            model.learn_one(value)
        return np.asarray(np.array(model.forecast(horizon))[None, :] + off[:, None], np.float64)


@dataclass(frozen=True, slots=True)
class SklearnRecipe:
    """The recipe of a scikit-learn regressor."""

    model: Any
    horizon: int
    kind: str = "skops"

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.model).__name__

    @property
    def parameters(self) -> Mapping[str, Any]:
        """As scikit-learn tells them."""
        return {name: _plain(value) for name, value in sorted(self.model.get_params().items())}

    @property
    def features(self) -> Sequence[str]:
        """Columns of the table that it is given."""
        return FEATURES

    def make_forecaster(self) -> Forecaster:
        """A clone that has learnt nothing."""
        return RegressorForecaster(self.model, self.horizon)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """A skops file."""
        from skops.io import dumps

        assert isinstance(forecaster, RegressorForecaster)  # noqa: S101 - it made it
        told = {
            "model": forecaster.model,
            "errors": forecaster.error_quantiles,
            "horizon": forecaster.horizon,
        }
        return {SKOPS_FILE: dumps(told)}


@dataclass(frozen=True, slots=True)
class RiverRecipe:
    """The recipe of a river forecaster."""

    name: str
    parameters: Mapping[str, Any]
    kind: str = "river"

    @property
    def features(self) -> Sequence[str]:
        """None: it sees the series alone."""
        return ()

    def make_forecaster(self) -> Forecaster:
        """One that has learnt nothing."""
        return ReplayedRiverForecaster(self.name, self.parameters)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:  # noqa: ARG002 - the recipe says it
        """No file: the manifest says all."""
        return {}


def recipe_for(model: Any, horizon: int) -> SklearnRecipe | RiverRecipe:  # noqa: ANN401 - anybody's model
    """The recipe of a scikit-learn regressor or a river forecaster. Raises InputError for anything else."""
    path = f"{type(model).__module__}.{type(model).__qualname__}"
    if hasattr(model, "learn_one") and hasattr(model, "forecast"):
        parameters = dict(model._get_params())  # noqa: SLF001 - river has no public name for it
        wrong = sorted(name for name, value in parameters.items() if _plain(value) != value)
        if wrong or not _RIVER.fullmatch(path):
            raise InputError(
                f"{path}: only river's own forecasters with plain parameters can be stored by parameters"
                + (f"; {', '.join(wrong)} is none" if wrong else "")
            )
        return RiverRecipe(path, parameters)
    if hasattr(model, "fit") and hasattr(model, "predict") and hasattr(model, "get_params"):
        return SklearnRecipe(model, horizon)
    raise InputError(f"{path}: wanted a scikit-learn regressor, or a river forecaster (river.time_series)")


def restore_submitted(stored: StoredModel, trusted: Collection[str] = ()) -> Forecaster:
    """The forecaster of a stored submission. Raises ModelRefusedError for a type that is not trusted."""
    manifest = stored.manifest
    if manifest.kind == "river":
        river_class(manifest.forecaster)
        return ReplayedRiverForecaster(manifest.forecaster, manifest.parameters)
    from skops.io import get_untrusted_types, loads

    content = stored.files[SKOPS_FILE]
    try:
        strange = sorted(set(get_untrusted_types(data=content)) - set(trusted))
        if strange:
            raise ModelRefusedError(
                f"the model holds {', '.join(strange)[:300]}, which nobody trusts; add it to "
                "registry.trusted_types if you do"
            )
        told = loads(content, trusted=list(trusted))
        return RegressorForecaster(
            told["model"], int(told["horizon"]), np.asarray(told["errors"], np.float64)
        )
    except ModelRefusedError:
        raise
    except Exception as error:  # the file is a stranger's: it may fail in any way, and another model serves
        raise ModelRefusedError(f"{SKOPS_FILE}: is no model of ours ({type(error).__name__})") from error


def river_class(path: str) -> Any:  # noqa: ANN401 - river has no types
    """A forecaster class of river's own, by path. Raises ModelRefusedError for anything else."""
    try:
        if not _RIVER.fullmatch(path):
            raise AttributeError(path)
        from river.time_series.base import Forecaster as RiverForecaster

        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if not issubclass(found, RiverForecaster):
            raise TypeError(path)
    except (ImportError, AttributeError, TypeError):
        raise ModelRefusedError(f"{path[:200]!r} is no forecaster of river.time_series") from None
    return found


def _windows(panel: Panel, horizon: int) -> list[tuple[Floats, Floats, Ints]]:
    """(features, targets, rows ahead) of up to _ORIGINS windows, without unknown targets, oldest first."""
    rows, n = panel.y.shape
    origins = np.unique(np.linspace(horizon, rows - horizon, _ORIGINS).astype(np.int64))
    ahead = np.arange(1, horizon + 1, max(horizon * n * len(origins) // _ROWS, 1))
    out = []
    for origin in origins[(origins >= horizon) & (origins + horizon <= rows)].tolist():
        back = (rows - origin) * round(panel.step_s * 1e9)
        past = replace(panel, y=panel.y[:origin], end=panel.end - back)
        y = regression_targets(panel.y[origin + ahead - 1], series_levels(past.y, past.step_s))
        known = np.isfinite(y)
        out.append((regression_features(past, ahead)[known], y[known], np.tile(ahead, n)[known]))
    return out


def _stacked(tables: list[tuple[Floats, Floats, Ints]]) -> tuple[Floats, Floats]:
    return np.concatenate([x for x, _, _ in tables]), np.concatenate([y for _, y, _ in tables])


def _plain(value: Any) -> Any:  # noqa: ANN401 - a parameter
    return value if isinstance(value, bool | int | float | str | None) else repr(value)[:200]
