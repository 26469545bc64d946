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
from trimtab.models.forecasting.linear_stage import evenly_spaced
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics, backtest_load, forecast_origins
from trimtab.pipelines.io.panel import NamedPanel
from trimtab.pipelines.io.stored_forecasts import QUANTILES
from trimtab.pipelines.model_registry.artifact import Manifest, StoredModel
from trimtab.pipelines.model_registry.mlflow_registry import CHAMPION
from trimtab.pipelines.model_registry.model_loader import restore_forecaster
from trimtab.pipelines.model_registry.model_schema import schema_mismatch
from trimtab.pipelines.model_registry.recipe import Recipe
from trimtab.pipelines.reports.load_plots import plot_evaluation

if TYPE_CHECKING:
    from trimtab.pipelines.train_load import LoadJob, ModelWorkspace

NAIVE = "seasonal_naive"
MIN_ROWS = 24
"""Rows that the past of the first judged window must have at least."""
MAX_SERIES = 500
"""Series that are judged; of more, so many spread over their names."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures on the same windows.

    champion : what serves; None = nothing does, or it cannot be read
    said     : on what it was judged, in words
    unfit    : why the champion is of no use any more, see `asked.unfit`; "" = it is
    """

    figures: Mapping[str, ForecastMetrics]
    champion: StoredModel | None
    plots: Mapping[str, Path]
    summary: str
    champion_mismatch: str = ""


def evaluate(
    job: "LoadJob", named: NamedPanel, place: "ModelWorkspace", recipe: Recipe, folder: Path
) -> Evaluation:
    """Judge a recipe on the last windows of a history; pictures go into the folder. Raises HistoryError."""
    some = _sample(named)
    rows = some.panel.y.shape[0]
    horizon = min(job.horizon, rows // 3)
    origins = forecast_origins(rows, horizon, job.origins, max(MIN_ROWS, horizon))
    if not origins:
        raise HistoryError(
            f"the history has {rows} steps of {job.step_s:g} s, wanted are {2 * MIN_ROWS} at least to "
            "learn from and to judge by; wait, or give a longer --since"
        )
    past = some.first_rows(origins[0]).panel
    champion = _champion(place, past, horizon, job.schema())
    contenders, champion = _contenders(past, horizon, job, place, recipe, champion)
    figures = backtest_load(some, contenders, horizon, origins)
    if champion is not None and "champion" not in figures:
        figures["champion"] = figures["challenger"]
    pictures = plot_evaluation(some, contenders, horizon, origins[-1], figures, folder)
    said = f"judged on {len(origins)} windows of {len(some.names)}"
    if len(some.names) < len(named.names):
        said += f" of {len(named.names)}"
    why = "" if champion is None else schema_mismatch(champion.manifest.schema, job.schema())
    return Evaluation(figures, champion, pictures, f"{said} series", why)


def _contenders(
    past: Panel,
    horizon: int,
    job: "LoadJob",
    place: "ModelWorkspace",
    recipe: Recipe,
    champion: StoredModel | None,
) -> tuple[dict[str, Forecaster], StoredModel | None]:
    """All fitted on the same past, and the champion, None where its recipe cannot do what is asked.

    A champion of the very same recipe would do as the challenger does.
    """
    found: dict[str, Forecaster] = {"challenger": recipe.make_forecaster(), NAIVE: place.make(NAIVE)}
    for contender in found.values():
        contender.fit(past)
    if champion is not None and not _same(champion.manifest, recipe, job):
        try:
            rival = restore_forecaster(champion, place.trusted, place.make)
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
    moved = schema_mismatch(manifest.schema, job.schema())
    return bool(moved) or dict(manifest.parameters) == dict(recipe.parameters)


def _sample(named: NamedPanel) -> NamedPanel:
    """At most MOST_SERIES of them, spread over their names."""
    n = len(named.names)
    if n <= MAX_SERIES:
        return named
    return named.pick(evenly_spaced(n, MAX_SERIES))


def _champion(
    place: "ModelWorkspace", past: Panel, horizon: int, wanted: Mapping[str, Any]
) -> StoredModel | None:
    """The champion; None where there is none that can be read, and forecasts what it is made for."""
    book = place.store.index()
    named = None if book.untold else place.registry.get_alias(CHAMPION)  # as a notebook promotes
    version = named.version if named is not None and named.version in book.versions else book.champion
    if version is None:
        return None
    try:
        stored = place.store.read(version)
        if not schema_mismatch(stored.manifest.schema, wanted):
            restore_forecaster(stored, place.trusted, place.make).predict(past, horizon, QUANTILES)
    except Exception:  # forecasting tells why; a champion that fails must not keep a better one away
        return None
    return stored
