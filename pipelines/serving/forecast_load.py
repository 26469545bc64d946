"""Forecast loads with the serving model and with the challenger.

The champion serves, else the previous champion, else seasonal naive. A model that is unreadable, refused, or
made for another step or horizon therefore never leaves a series without a forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.models.contracts import Floats, Forecaster
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.panel import NamedPanel
from trimtab.pipelines.io.stored_forecasts import QUANTILES, StoredForecasts
from trimtab.pipelines.model_registry.model_loader import restore_forecaster
from trimtab.pipelines.model_registry.model_schema import required_schema, schema_mismatch
from trimtab.pipelines.train_load import MODEL_NAME, ModelWorkspace
from trimtab.pipelines.training.evaluation import NAIVE

BATCH_SERIES = 1000
"""Series forecast together; bounds memory."""


@dataclass(frozen=True, slots=True)
class _ForecastRequest:
    """A request to all models, and the versions that could not answer it, each with the reason."""

    workspace: ModelWorkspace
    named_panel: NamedPanel
    horizon: int
    refused: dict[str, str] = field(default_factory=dict)
    incompatible: dict[str, str] = field(default_factory=dict)


def forecast_load(named_panel: NamedPanel, horizon: int, workspace: ModelWorkspace) -> StoredForecasts:
    """Forecast every series of a panel over `horizon` rows."""
    request = _ForecastRequest(workspace, named_panel, horizon)
    index = workspace.store.index()
    panel = named_panel.panel
    values, model, version = _forecast_serving(request, (index.champion, index.previous))
    challenger = _try_version(request, index.challenger)
    first = np.argmax(np.isfinite(panel.y), axis=0)
    history_s = (panel.y.shape[0] - first) * panel.step_s
    return StoredForecasts(
        named_panel.names, panel.end, panel.step_s, values, history_s, model, version, challenger,
        (index.challenger or "") if challenger is not None else "", request.refused, request.incompatible,
    )  # fmt: skip


def _predict_in_batches(forecaster: Forecaster, named_panel: NamedPanel, horizon: int) -> Floats:
    """Return (n_quantiles, horizon, n_series), forecast in batches to bound memory."""
    n = len(named_panel.names)
    parts = np.array_split(np.arange(n), max(-(-n // BATCH_SERIES), 1))
    values = []
    for part in parts:
        forecast = forecaster.predict(named_panel.pick(part).panel, horizon, QUANTILES)
        shape = (len(QUANTILES), horizon, len(part))
        if forecast.shape != shape:
            raise ModelRefusedError(f"its forecast has the shape {forecast.shape} instead of {shape}")
        values.append(forecast)
    return np.concatenate(values, axis=2)


def _forecast_serving(request: _ForecastRequest, versions: Sequence[str | None]) -> tuple[Floats, str, str]:
    for version in versions:
        found = _try_version(request, version)
        if found is not None and version is not None:
            return found, MODEL_NAME, version
    naive = request.workspace.make(NAIVE)
    naive.fit(request.named_panel.panel)
    return _predict_in_batches(naive, request.named_panel, request.horizon), NAIVE, ""


def _try_version(request: _ForecastRequest, version: str | None) -> Floats | None:
    """Return the forecasts of a version, or None if it cannot forecast; the reason is recorded."""
    workspace, named_panel, horizon = request.workspace, request.named_panel, request.horizon
    if version is None:
        return None
    try:
        stored = workspace.store.read(version)
        mismatch = schema_mismatch(stored.manifest.schema, required_schema(named_panel.panel.step_s, horizon))
        if mismatch:
            request.incompatible[version] = mismatch
            return None
        forecast = _predict_in_batches(
            restore_forecaster(stored, workspace.trusted, workspace.make), named_panel, horizon
        )
    except ModelRefusedError as error:
        reason = str(error)
    except Exception as error:  # a foreign model may raise anything; another model then serves
        reason = f"it cannot forecast ({type(error).__name__}: {error})"
    else:
        return forecast
    if workspace.store.mark_refused(version, reason):
        request.refused[version] = reason
    return None
