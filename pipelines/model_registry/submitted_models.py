"""Submitted models as load forecasters: scikit-learn regressors and river forecasters.

Neither is stored as a pickle. skops opens only types that are safe or trusted by name. Of a river model only
its class and parameters are stored; it learns the recorded history again.
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

_BUCKETS, _MAX_ROWS, _MAX_WINDOWS = 8, 60_000, 40
_ERROR_LEVELS = np.linspace(0.005, 0.995, 199)
_RIVER = re.compile(r"river(\.[a-z_]\w*)+\.[A-Z]\w*")


class RegressorForecaster:
    """Forecasts with a scikit-learn regressor over `regression_features.FEATURES`.

    The quantiles are the regressor's forecast plus quantiles of its errors on later windows.

    model           : fitted or not; `fit` clones it
    horizon         : rows of the longest forecast
    error_quantiles : (n_buckets, n_levels) quantiles of errors by rows ahead, in levels of a series;
                      None = not fitted
    """

    def __init__(self, model: Any, horizon: int, error_quantiles: Floats | None = None) -> None:  # noqa: ANN401 - scikit-learn has no types
        self.model = model
        self.horizon = horizon
        self.error_quantiles = error_quantiles

    def fit(self, panel: Panel) -> None:
        """Fit on the earlier windows, measure errors on the later ones, then fit on all.

        Raises InputError if the history is too short.
        """
        from sklearn.base import clone

        tables = _training_windows(panel, self.horizon)
        if not tables:
            raise InputError(f"the history has {len(panel.y)} rows; more than {2 * self.horizon} are needed")
        cut = max(len(tables) * 3 // 4, 1)
        early_model = clone(self.model).fit(*_stack(tables[:cut]))
        self.error_quantiles = self._measure_errors(early_model, tables[cut:] or tables)
        self.model = clone(self.model).fit(*_stack(tables))

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series)."""
        assert self.error_quantiles is not None  # noqa: S101 - fitted or restored before
        ahead = np.arange(1, horizon + 1)
        n, level = panel.y.shape[1], series_levels(panel.y, panel.step_s)
        table = regression_features(panel, ahead)
        middle = np.asarray(self.model.predict(table), np.float64).reshape(n, horizon)
        by_bucket = np.stack([np.interp(quantiles, _ERROR_LEVELS, row) for row in self.error_quantiles])
        spread = by_bucket[self._bucket(ahead)]
        result = (middle[None] + spread.T[:, None, :]) * level[None, :, None]
        result = np.where(panel.non_negative[None, :, None], np.maximum(result, 0.0), result)
        return np.asarray(result.transpose(0, 2, 1), np.float64)

    def state(self) -> State:
        """Return no arrays: skops stores the model."""
        return {}

    def restore(self, state: State) -> None:
        """Restore nothing: skops stores the model."""

    def _bucket(self, ahead: Ints) -> Ints:
        return np.asarray(np.minimum((ahead - 1) * _BUCKETS // self.horizon, _BUCKETS - 1), np.int64)

    def _measure_errors(self, model: Any, tables: list[tuple[Floats, Floats, Ints]]) -> Floats:  # noqa: ANN401 - as above
        x, y = _stack(tables)
        residuals = y - model.predict(x)
        bucket = self._bucket(np.concatenate([ahead for _, _, ahead in tables]))
        overall = np.quantile(residuals, _ERROR_LEVELS)
        rows = [residuals[bucket == k] for k in range(_BUCKETS)]
        return np.stack([np.quantile(row, _ERROR_LEVELS) if len(row) > 20 else overall for row in rows])


class ReplayedRiverForecaster:
    """Forecasts with one river forecaster per series, which learns the panel's history at each forecast.

    The quantiles are its forecast plus quantiles of its errors on the last horizon of the history.

    path       : import path of the river class
    parameters : constructor parameters
    """

    def __init__(self, path: str, parameters: Mapping[str, Any]) -> None:
        self.path = path
        self.parameters = dict(parameters)

    def fit(self, panel: Panel) -> None:
        """Learn nothing: each series is learned on its own in `predict`."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series); NaN for a series shorter than two horizons."""
        result = np.full((len(quantiles), horizon, panel.y.shape[1]), np.nan)
        for series, column in enumerate(panel.y.T):
            known = column[np.isfinite(column)]
            if len(known) > 2 * horizon:
                result[:, :, series] = self._forecast_series(known, horizon, quantiles)
        result = np.where(panel.non_negative[None, None, :], np.maximum(result, 0.0), result)
        return np.asarray(result, np.float64)

    def state(self) -> State:
        """Return no arrays: the history is learned again."""
        return {}

    def restore(self, state: State) -> None:
        """Restore nothing: the history is learned again."""

    def _forecast_series(self, y: Floats, horizon: int, quantiles: Sequence[float]) -> Floats:
        model = river_class(self.path)(**self.parameters)
        for value in y[:-horizon].tolist():
            model.learn_one(value)
        offsets = np.quantile(y[-horizon:] - np.array(model.forecast(horizon)), quantiles)
        for value in y[-horizon:].tolist():
            model.learn_one(value)
        return np.asarray(np.array(model.forecast(horizon))[None, :] + offsets[:, None], np.float64)


@dataclass(frozen=True, slots=True)
class SklearnRecipe:
    """Recipe of a scikit-learn regressor."""

    model: Any
    horizon: int
    kind: str = "skops"

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self.model).__name__

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of `get_params`, as plain JSON."""
        return {name: _json_safe(value) for name, value in sorted(self.model.get_params().items())}

    @property
    def features(self) -> Sequence[str]:
        """Feature names of the input table."""
        return FEATURES

    def make_forecaster(self) -> Forecaster:
        """Return an unfitted forecaster."""
        return RegressorForecaster(self.model, self.horizon)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """Return the model as a skops file."""
        from skops.io import dumps

        assert isinstance(forecaster, RegressorForecaster)  # noqa: S101 - created by this recipe
        saved = {
            "model": forecaster.model,
            "errors": forecaster.error_quantiles,
            "horizon": forecaster.horizon,
        }
        return {SKOPS_FILE: dumps(saved)}


@dataclass(frozen=True, slots=True)
class RiverRecipe:
    """Recipe of a river forecaster."""

    name: str
    parameters: Mapping[str, Any]
    kind: str = "river"

    @property
    def features(self) -> Sequence[str]:
        """No features: the model uses the series only."""
        return ()

    def make_forecaster(self) -> Forecaster:
        """Return an unfitted forecaster."""
        return ReplayedRiverForecaster(self.name, self.parameters)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:  # noqa: ARG002 - the manifest describes the model
        """Return no file: the manifest holds class and parameters."""
        return {}


def recipe_for(model: Any, horizon: int) -> SklearnRecipe | RiverRecipe:  # noqa: ANN401 - any model
    """Return the recipe of a regressor or river forecaster. Raises InputError for other objects."""
    path = f"{type(model).__module__}.{type(model).__qualname__}"
    if hasattr(model, "learn_one") and hasattr(model, "forecast"):
        parameters = dict(model._get_params())  # noqa: SLF001 - river has no public equivalent
        invalid = sorted(name for name, value in parameters.items() if _json_safe(value) != value)
        if invalid or not _RIVER.fullmatch(path):
            raise InputError(
                f"{path}: only forecasters of river with JSON parameters can be stored"
                + (f"; {', '.join(invalid)} is not JSON" if invalid else "")
            )
        return RiverRecipe(path, parameters)
    if hasattr(model, "fit") and hasattr(model, "predict") and hasattr(model, "get_params"):
        return SklearnRecipe(model, horizon)
    raise InputError(f"{path} is neither a scikit-learn regressor nor a river forecaster (river.time_series)")


def restore_submitted(stored: StoredModel, trusted: Collection[str] = ()) -> Forecaster:
    """Return the forecaster of a stored submission. Raises ModelRefusedError if it is untrusted."""
    manifest = stored.manifest
    if manifest.kind == "river":
        river_class(manifest.forecaster)
        return ReplayedRiverForecaster(manifest.forecaster, manifest.parameters)
    from skops.io import get_untrusted_types, loads

    content = stored.files[SKOPS_FILE]
    try:
        untrusted = sorted(set(get_untrusted_types(data=content)) - set(trusted))
        if untrusted:
            raise ModelRefusedError(
                f"the model contains the untrusted types {', '.join(untrusted)[:300]}; add them to "
                "registry.trusted_types if you trust them"
            )
        saved = loads(content, trusted=list(trusted))
        return RegressorForecaster(
            saved["model"], int(saved["horizon"]), np.asarray(saved["errors"], np.float64)
        )
    except ModelRefusedError:
        raise
    except Exception as error:  # foreign content may raise anything; another model then serves
        raise ModelRefusedError(f"{SKOPS_FILE}: is not a valid model ({type(error).__name__})") from error


def river_class(path: str) -> Any:  # noqa: ANN401 - river has no types
    """Return a class of river.time_series by its import path. Raises ModelRefusedError for any other path."""
    try:
        if not _RIVER.fullmatch(path):
            raise AttributeError(path)
        from river.time_series.base import Forecaster as RiverForecaster

        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if not issubclass(found, RiverForecaster):
            raise TypeError(path)
    except (ImportError, AttributeError, TypeError):
        raise ModelRefusedError(f"{path[:200]!r} is not a forecaster of river.time_series") from None
    return found


def _training_windows(panel: Panel, horizon: int) -> list[tuple[Floats, Floats, Ints]]:
    """Return (features, targets, rows ahead) of each window, oldest first, without unknown targets."""
    rows, n = panel.y.shape
    origins = np.unique(np.linspace(horizon, rows - horizon, _MAX_WINDOWS).astype(np.int64))
    ahead = np.arange(1, horizon + 1, max(horizon * n * len(origins) // _MAX_ROWS, 1))
    result = []
    for origin in origins[(origins >= horizon) & (origins + horizon <= rows)].tolist():
        back = (rows - origin) * round(panel.step_s * 1e9)
        past = replace(panel, y=panel.y[:origin], end=panel.end - back)
        y = regression_targets(panel.y[origin + ahead - 1], series_levels(past.y, past.step_s))
        known = np.isfinite(y)
        result.append((regression_features(past, ahead)[known], y[known], np.tile(ahead, n)[known]))
    return result


def _stack(tables: list[tuple[Floats, Floats, Ints]]) -> tuple[Floats, Floats]:
    return np.concatenate([x for x, _, _ in tables]), np.concatenate([y for _, y, _ in tables])


def _json_safe(value: Any) -> Any:  # noqa: ANN401 - a parameter
    return value if isinstance(value, bool | int | float | str | None) else repr(value)[:200]
