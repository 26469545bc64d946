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
    serving, model, version = _serving(place, named, (book.champion, book.previous), refused)
    beside, challenger = _read(place, book.challenger, refused), None
    values = _predicted(serving, named, horizon)
    if beside is not None:
        challenger = _predicted(beside, named, horizon)
    first = np.argmax(np.isfinite(panel.y), axis=0)
    past_s = (panel.y.shape[0] - first) * panel.step_s
    return Ahead(
        named.names, panel.end, panel.step_s, values, past_s, model, version, challenger,
        (book.challenger or "") if beside is not None else "", refused,
    )  # fmt: skip


def _predicted(forecaster: Forecaster, named: Named, horizon: int) -> Floats:
    """(n_quantiles, horizon, n_series), some series after the other: members hold several arrays of these."""
    n = len(named.names)
    parts = np.array_split(np.arange(n), max(-(-n // AT_ONCE), 1))
    values = [forecaster.predict(named.pick(part).panel, horizon, QUANTILES) for part in parts]
    return np.concatenate(values, axis=2)


def _serving(
    place: Place, named: Named, versions: Sequence[str | None], refused: dict[str, str]
) -> tuple[Forecaster, str, str]:
    for version in versions:
        found = _read(place, version, refused)
        if found is not None and version is not None:
            return found, MODEL, version
    naive = place.make(NAIVE)
    naive.fit(named.panel)
    return naive, NAIVE, ""


def _read(place: Place, version: str | None, refused: dict[str, str]) -> Forecaster | None:
    if version is None:
        return None
    try:
        return forecaster_of(place.shelf.read(version), place.trusted, place.make)
    except ModelRefusedError as error:
        if place.shelf.refuse(version, str(error)):
            refused[version] = str(error)
        return None
