"""Forecasts of loads by what serves now, and by the challenger beside it.

What serves is the champion, else the champion before it, else seasonal naive: a model that cannot be read,
is refused, or is made for another step or horizon never leaves anybody without a forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.models.contracts import Floats, Forecaster
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.panel import Named
from trimtab.pipelines.io.stored_forecasts import QUANTILES, Ahead
from trimtab.pipelines.model_registry.model_loader import forecaster_of
from trimtab.pipelines.model_registry.model_schema import asked, unfit
from trimtab.pipelines.train_load import MODEL, Place
from trimtab.pipelines.training.evaluation import NAIVE

AT_ONCE = 1000
"""Series that are forecast together."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of every model, and of whom nothing came of it: version -> why."""

    place: Place
    named: Named
    horizon: int
    refused: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)


def forecast_load(named: Named, horizon: int, place: Place) -> Ahead:
    """Forecast every series of a panel."""
    asking = _Asking(place, named, horizon)
    book = place.shelf.book()
    panel = named.panel
    values, model, version = _serving(asking, (book.champion, book.previous))
    challenger = _said(asking, book.challenger)
    first = np.argmax(np.isfinite(panel.y), axis=0)
    past_s = (panel.y.shape[0] - first) * panel.step_s
    return Ahead(
        named.names, panel.end, panel.step_s, values, past_s, model, version, challenger,
        (book.challenger or "") if challenger is not None else "", asking.refused, asking.unfit,
    )  # fmt: skip


def _predicted(forecaster: Forecaster, named: Named, horizon: int) -> Floats:
    """(n_quantiles, horizon, n_series), some series after the other: members hold several arrays of these."""
    n = len(named.names)
    parts = np.array_split(np.arange(n), max(-(-n // AT_ONCE), 1))
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
            return found, MODEL, version
    naive = asking.place.make(NAIVE)
    naive.fit(asking.named.panel)
    return _predicted(naive, asking.named, asking.horizon), NAIVE, ""


def _said(asking: _Asking, version: str | None) -> Floats | None:
    """What a version forecasts; None where it cannot, which is noted."""
    place, named, horizon = asking.place, asking.named, asking.horizon
    if version is None:
        return None
    try:
        stored = place.shelf.read(version)
        strange = unfit(stored.manifest.schema, asked(named.panel.step_s, horizon))
        if strange:
            asking.unfit[version] = strange
            return None
        ahead = _predicted(forecaster_of(stored, place.trusted, place.make), named, horizon)
    except ModelRefusedError as error:
        why = str(error)
    except Exception as error:  # it may be a stranger's and fail in any way; another one serves
        why = f"it cannot forecast ({type(error).__name__}: {error})"
    else:
        return ahead
    if place.shelf.refuse(version, why):
        asking.refused[version] = why
    return None
