"""Forecasts of loads by what serves now, and by the challenger beside it.

What serves is the champion, else the champion before it, else seasonal naive: a model that cannot be read
or is refused never leaves anybody without a forecast.
"""

from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Forecaster
from trimtab.pipelines.ahead import QUANTILES, Ahead
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.judgement import NAIVE
from trimtab.pipelines.loaded import forecaster_of
from trimtab.pipelines.panel import Named
from trimtab.pipelines.train_load import MODEL, Place

AT_ONCE = 1000
"""Series that are forecast together."""


def forecast_load(named: Named, horizon: int, place: Place) -> Ahead:
    """Forecast every series of a panel."""
    refused: dict[str, str] = {}
    book = place.shelf.book()
    panel = named.panel
    values, model, version = _serving(place, named, horizon, (book.champion, book.previous), refused)
    challenger = _said(place, named, horizon, book.challenger, refused)
    first = np.argmax(np.isfinite(panel.y), axis=0)
    past_s = (panel.y.shape[0] - first) * panel.step_s
    return Ahead(
        named.names, panel.end, panel.step_s, values, past_s, model, version, challenger,
        (book.challenger or "") if challenger is not None else "", refused,
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


def _serving(
    place: Place, named: Named, horizon: int, versions: Sequence[str | None], refused: dict[str, str]
) -> tuple[Floats, str, str]:
    for version in versions:
        found = _said(place, named, horizon, version, refused)
        if found is not None and version is not None:
            return found, MODEL, version
    naive = place.make(NAIVE)
    naive.fit(named.panel)
    return _predicted(naive, named, horizon), NAIVE, ""


def _said(
    place: Place, named: Named, horizon: int, version: str | None, refused: dict[str, str]
) -> Floats | None:
    """What a version forecasts; None where it cannot be read or fails, which is noted in `refused`."""
    if version is None:
        return None
    try:
        forecaster = forecaster_of(place.shelf.read(version), place.trusted, place.make)
        ahead = _predicted(forecaster, named, horizon)
    except ModelRefusedError as error:
        why = str(error)
    except Exception as error:  # it may be a stranger's and fail in any way; another one serves
        why = f"it cannot forecast ({type(error).__name__}: {error})"
    else:
        return ahead
    if place.shelf.refuse(version, why):
        refused[version] = why
    return None
