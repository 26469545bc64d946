"""How a recipe is judged before anything of it is stored: on held-out windows, beside those it must beat.

Nobody is judged on what it was trained on: recipe and champion are fitted on the past of the first window.
Of the champion that is its recipe, trained anew; as it is, it has seen these windows. How the stored
champion itself does is told live, while a challenger runs beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.models.contracts import Forecaster, Panel
from trimtab.models.forecasting.linear_stage import spread_over
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.forecasting.backtest_load import Figures, backtest_load, origins_of
from trimtab.pipelines.io.panel import Named
from trimtab.pipelines.io.stored_forecasts import QUANTILES
from trimtab.pipelines.model_registry.artifact import Manifest, Stored
from trimtab.pipelines.model_registry.mlflow_registry import CHAMPION
from trimtab.pipelines.model_registry.model_loader import forecaster_of
from trimtab.pipelines.model_registry.model_schema import unfit
from trimtab.pipelines.model_registry.recipe import Recipe
from trimtab.pipelines.reports.load_plots import draw

if TYPE_CHECKING:
    from trimtab.pipelines.train_load import LoadJob, Place

NAIVE = "seasonal_naive"
FEWEST_ROWS = 24
"""Rows that the past of the first judged window must have at least."""
MOST_SERIES = 500
"""Series that are judged; of more, so many spread over their names."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures on the same windows.

    champion : what serves; None = nothing does, or it cannot be read
    said     : on what it was judged, in words
    unfit    : why the champion is of no use any more, see `asked.unfit`; "" = it is
    """

    figures: Mapping[str, Figures]
    champion: Stored | None
    pictures: Mapping[str, Path]
    said: str
    unfit: str = ""


def judged(job: "LoadJob", named: Named, place: "Place", recipe: Recipe, folder: Path) -> Judged:
    """Judge a recipe on the last windows of a history; pictures go into the folder. Raises HistoryError."""
    some = _sample(named)
    rows = some.panel.y.shape[0]
    horizon = min(job.horizon, rows // 3)
    origins = origins_of(rows, horizon, job.origins, max(FEWEST_ROWS, horizon))
    if not origins:
        raise HistoryError(
            f"the history has {rows} steps of {job.step_s:g} s, wanted are {2 * FEWEST_ROWS} at least to "
            "learn from and to judge by; wait, or give a longer --since"
        )
    past = some.rows(origins[0]).panel
    champion = _champion(place, past, horizon, job.schema())
    contenders, champion = _contenders(past, horizon, job, place, recipe, champion)
    figures = backtest_load(some, contenders, horizon, origins)
    if champion is not None and "champion" not in figures:
        figures["champion"] = figures["challenger"]
    pictures = draw(some, contenders, horizon, origins[-1], figures, folder)
    said = f"judged on {len(origins)} windows of {len(some.names)}"
    if len(some.names) < len(named.names):
        said += f" of {len(named.names)}"
    why = "" if champion is None else unfit(champion.manifest.schema, job.schema())
    return Judged(figures, champion, pictures, f"{said} series", why)


def _contenders(
    past: Panel, horizon: int, job: "LoadJob", place: "Place", recipe: Recipe, champion: Stored | None
) -> tuple[dict[str, Forecaster], Stored | None]:
    """All fitted on the same past, and the champion, None where its recipe cannot do what is asked.

    A champion of the very same recipe would do as the challenger does.
    """
    found: dict[str, Forecaster] = {"challenger": recipe.fresh(), NAIVE: place.make(NAIVE)}
    for contender in found.values():
        contender.fit(past)
    if champion is not None and not _same(champion.manifest, recipe, job):
        try:
            rival = forecaster_of(champion, place.trusted, place.make)
            rival.fit(past)
            rival.predict(past, horizon, QUANTILES)
        except Exception:  # a stranger's may fail in any way, and must not keep a better one away
            return found, None
        found["champion"] = rival
    return found, champion


def _same(manifest: Manifest, recipe: Recipe, job: "LoadJob") -> bool:
    """Whether a champion of this manifest, trained anew, would be what the challenger is.

    Parameters that belong to what is asked, as how far ahead, change with it.
    """
    if (manifest.kind, manifest.forecaster) != (recipe.kind, recipe.name):
        return False
    moved = unfit(manifest.schema, job.schema())
    return bool(moved) or dict(manifest.parameters) == dict(recipe.parameters)


def _sample(named: Named) -> Named:
    """At most MOST_SERIES of them, spread over their names."""
    n = len(named.names)
    if n <= MOST_SERIES:
        return named
    return named.pick(spread_over(n, MOST_SERIES))


def _champion(place: "Place", past: Panel, horizon: int, wanted: Mapping[str, Any]) -> Stored | None:
    """The champion; None where there is none that can be read, and forecasts what it is made for."""
    book = place.shelf.book()
    named = None if book.untold else place.registry.alias(CHAMPION)  # as a notebook promotes
    version = named.version if named is not None and named.version in book.versions else book.champion
    if version is None:
        return None
    try:
        stored = place.shelf.read(version)
        if not unfit(stored.manifest.schema, wanted):
            forecaster_of(stored, place.trusted, place.make).predict(past, horizon, QUANTILES)
    except Exception:  # forecasting tells why; a champion that fails must not keep a better one away
        return None
    return stored
