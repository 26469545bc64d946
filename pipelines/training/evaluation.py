"""Evaluate a recipe on held-out windows, together with the champion and seasonal naive.

No contender is evaluated on data it was trained on: the recipe and the champion's recipe are both fitted on
                                                     the
history before the first window. The error of the stored champion itself is measured live, see
`live_accuracy`.
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
"""Minimum rows of history before the first evaluated window."""
MAX_SERIES = 500
"""Maximum number of evaluated series; of more, a sample spread over their names."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of all contenders on the same windows.

    metrics           : metrics by contender
    champion          : the stored champion; None = there is none, or it cannot forecast
    plots             : PNG files by name
    summary           : number of evaluated windows and series, in words
    champion_mismatch : why the champion does not match the job's schema; "" = it does
    """

    metrics: Mapping[str, ForecastMetrics]
    champion: StoredModel | None
    plots: Mapping[str, Path]
    summary: str
    champion_mismatch: str = ""


def evaluate(
    job: "LoadJob", named_panel: NamedPanel, workspace: "ModelWorkspace", recipe: Recipe, folder: Path
) -> Evaluation:
    """Evaluate a recipe on the last windows of a history and write plots into the folder.

    Raises HistoryError if the history is too short.
    """
    sample = _sample_series(named_panel)
    rows = sample.panel.y.shape[0]
    horizon = min(job.horizon, rows // 3)
    origins = forecast_origins(rows, horizon, job.origins, max(MIN_ROWS, horizon))
    if not origins:
        raise HistoryError(
            f"the history has {rows} steps of {job.step_s:g} s, at least {2 * MIN_ROWS} are needed to "
            "train and evaluate; wait, or use a longer --since"
        )
    past = sample.first_rows(origins[0]).panel
    champion = _load_champion(workspace, past, horizon, job.schema())
    contenders, champion = _contenders(past, horizon, job, workspace, recipe, champion)
    metrics = backtest_load(sample, contenders, horizon, origins)
    if champion is not None and "champion" not in metrics:
        metrics["champion"] = metrics["challenger"]
    plots = plot_evaluation(sample, contenders, horizon, origins[-1], metrics, folder)
    summary = f"evaluated on {len(origins)} windows of {len(sample.names)}"
    if len(sample.names) < len(named_panel.names):
        summary += f" of {len(named_panel.names)}"
    mismatch = "" if champion is None else schema_mismatch(champion.manifest.schema, job.schema())
    return Evaluation(metrics, champion, plots, f"{summary} series", mismatch)


def _contenders(
    past: Panel,
    horizon: int,
    job: "LoadJob",
    workspace: "ModelWorkspace",
    recipe: Recipe,
    champion: StoredModel | None,
) -> tuple[dict[str, Forecaster], StoredModel | None]:
    """Return the fitted contenders, and the champion; None if its recipe cannot be fitted.

    A champion with the same recipe as the challenger is left out, because its metrics would be equal.
    """
    contenders: dict[str, Forecaster] = {"challenger": recipe.make_forecaster(), NAIVE: workspace.make(NAIVE)}
    for contender in contenders.values():
        contender.fit(past)
    if champion is not None and not _is_same_recipe(champion.manifest, recipe, job):
        try:
            retrained = restore_forecaster(champion, workspace.trusted, workspace.make)
            retrained.fit(past)
            retrained.predict(past, horizon, QUANTILES)
        except Exception:  # a foreign model may raise anything, and must not block a better one
            return contenders, None
        contenders["champion"] = retrained
    return contenders, champion


def _is_same_recipe(manifest: Manifest, recipe: Recipe, job: "LoadJob") -> bool:
    """Return whether retraining a champion of this manifest would give the challenger.

    Parameters that depend on the request, such as the longest horizon, may differ.
    """
    if (manifest.kind, manifest.forecaster) != (recipe.kind, recipe.name):
        return False
    mismatch = schema_mismatch(manifest.schema, job.schema())
    return bool(mismatch) or dict(manifest.parameters) == dict(recipe.parameters)


def _sample_series(named_panel: NamedPanel) -> NamedPanel:
    """Return at most MAX_SERIES series, spread over their names."""
    n = len(named_panel.names)
    if n <= MAX_SERIES:
        return named_panel
    return named_panel.pick(evenly_spaced(n, MAX_SERIES))


def _load_champion(
    workspace: "ModelWorkspace", past: Panel, horizon: int, wanted: Mapping[str, Any]
) -> StoredModel | None:
    """Return the champion; None if there is none, it is unreadable, or it fails to forecast."""
    index = workspace.store.index()
    # a notebook promotes in the registry only
    registered = None if index.untold else workspace.registry.get_alias(CHAMPION)
    known = registered is not None and registered.version in index.versions
    version = registered.version if registered is not None and known else index.champion
    if version is None:
        return None
    try:
        stored = workspace.store.read(version)
        if not schema_mismatch(stored.manifest.schema, wanted):
            restore_forecaster(stored, workspace.trusted, workspace.make).predict(past, horizon, QUANTILES)
    except Exception:  # forecast_load reports the reason; a failing champion must not block a better one
        return None
    return stored
