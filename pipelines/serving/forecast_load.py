"""Forecasts of loads by what serves now, and by the challenger beside it.

What serves is the champion, else the champion before it, else seasonal naive: a model that cannot be read,
is refused, or is made for another step or horizon never leaves anybody without a forecast.
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
"""Series that are forecast together."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of every model, and of whom nothing came of it: version -> why."""

    place: ModelWorkspace
    named: NamedPanel
    horizon: int
    refused: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)


def forecast_load(named: NamedPanel, horizon: int, place: ModelWorkspace) -> StoredForecasts:
    """Forecast every series of a panel."""
    asking = _Asking(place, named, horizon)
    book = place.store.index()
    panel = named.panel
    values, model, version = _serving(asking, (book.champion, book.previous))
    challenger = _said(asking, book.challenger)
    first = np.argmax(np.isfinite(panel.y), axis=0)
    past_s = (panel.y.shape[0] - first) * panel.step_s
    return StoredForecasts(
        named.names, panel.end, panel.step_s, values, past_s, model, version, challenger,
        (book.challenger or "") if challenger is not None else "", asking.refused, asking.unfit,
    )  # fmt: skip


def _predicted(forecaster: Forecaster, named: NamedPanel, horizon: int) -> Floats:
    """(n_quantiles, horizon, n_series), some series after the other: members hold several arrays of these."""
    n = len(named.names)
    parts = np.array_split(np.arange(n), max(-(-n // BATCH_SERIES), 1))
    values = []
    for part in parts:
        ahead = forecaster.predict(named.pick(part).panel, horizon, QUANTILES)
        wanted = (len(QUANTILES), horizon, len(part))
        if ahead.shape != wanted:
            raise ModelRefusedError(f"it forecasts an array of {ahead.shape}, wanted is {wanted}")
        values.append(ahead)
    return np.concatenate(values, axis=2)


def _serving(asking: _Asking, versions: Sequence[str | None]) -> tuple[Floats, str, str]:
    for version in versions:
        found = _said(asking, version)
        if found is not None and version is not None:
            return found, MODEL_NAME, version
    naive = asking.place.make(NAIVE)
    naive.fit(asking.named.panel)
    return _predicted(naive, asking.named, asking.horizon), NAIVE, ""


def _said(asking: _Asking, version: str | None) -> Floats | None:
    """What a version forecasts; None where it cannot, which is noted."""
    place, named, horizon = asking.place, asking.named, asking.horizon
    if version is None:
        return None
    try:
        stored = place.store.read(version)
        strange = schema_mismatch(stored.manifest.schema, required_schema(named.panel.step_s, horizon))
        if strange:
            asking.unfit[version] = strange
            return None
        ahead = _predicted(restore_forecaster(stored, place.trusted, place.make), named, horizon)
    except ModelRefusedError as error:
        why = str(error)
    except Exception as error:  # it may be a stranger's and fail in any way; another one serves
        why = f"it cannot forecast ({type(error).__name__}: {error})"
    else:
        return ahead
    if place.store.mark_refused(version, why):
        asking.refused[version] = why
    return None
