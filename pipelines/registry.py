"""The registry as notebooks use it: train or submit a model, look at what there is, promote, forecast."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from ulid import ULID

from trimtab.models.contracts import Forecaster
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.history import History
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.io.stored_forecasts import QUANTILES
from trimtab.pipelines.model_registry.artifact import read_model
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION, MlflowRegistry
from trimtab.pipelines.model_registry.model_loader import restore_forecaster
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.model_registry.recipe import Recipe
from trimtab.pipelines.model_registry.submitted_models import recipe_for
from trimtab.pipelines.train_load import MODEL_NAME, LoadJob, ModelWorkspace, TrainingResult, train_load
from trimtab.pipelines.training.pipeline_runs import PipelineRuns

DATA_DIR = Path("~/.local/share/trimtab")


def open_workspace(data_dir: Path, uri: str = "", trusted: tuple[str, ...] = ()) -> ModelWorkspace:
    """Registry, shelf and runs of the load model in a data folder, or at a tracking server."""
    shelf, runs = ModelStore(data_dir / "models" / MODEL_NAME), data_dir / "training" / MODEL_NAME
    registry = MlflowRegistry(MODEL_NAME, data_dir / "mlflow", uri)
    return ModelWorkspace(registry, shelf, PipelineRuns(runs, MODEL_NAME, _now, lambda: str(ULID())), trusted)


def submit(
    model: Any,  # noqa: ANN401 - anybody's model
    selector: str,
    history: History | pd.DataFrame,
    *,
    data_dir: Path = DATA_DIR,
    uri: str = "",
    trusted: tuple[str, ...] = (),
    job: LoadJob | None = None,
    workspace: ModelWorkspace | None = None,
) -> TrainingResult:
    """Fit, judge and register a model of your own; where it holds its own it runs beside the champion.

    model    : a scikit-learn regressor over `features.FEATURES`, or a river forecaster
    selector : what of the history, as its `read` takes it
    history  : a place where history can be had, or unique_id, ds, y
    data_dir : of the engine that is to run it
    uri      : of the tracking server, where the engine has one
    trusted  : types that the engine trusts, too (registry.trusted_types), as "sklearn.tree._tree.Tree"

    `verdict` of what it gives says whether it became challenger, and why not. Raises InputError for a model
    of another kind, ModelRefusedError for types that are not trusted, HistoryError, RegistryError, BusyError.
    """
    wanted = job or LoadJob()
    recipe = recipe_for(model, wanted.horizon)
    wanted = replace(wanted, forecaster=recipe.name, parameters=dict(recipe.parameters))
    return _held(
        wanted, selector, history, workspace or open_workspace(data_dir.expanduser(), uri, trusted), recipe
    )


def train(
    selector: str,
    history: History | pd.DataFrame,
    *,
    data_dir: Path = DATA_DIR,
    uri: str = "",
    trusted: tuple[str, ...] = (),
    job: LoadJob | None = None,
    workspace: ModelWorkspace | None = None,
) -> TrainingResult:
    """Train a forecaster of the catalogue (`job.forecaster`), as `submit` does with one of your own.

    It becomes challenger, also where there is no champion yet: see `promote`. Raises as `submit` does.
    """
    where = workspace or open_workspace(data_dir.expanduser(), uri, trusted)
    return _held(job or LoadJob(), selector, history, where, None)


def versions(
    *, data_dir: Path = DATA_DIR, uri: str = "", workspace: ModelWorkspace | None = None
) -> pd.DataFrame:
    """What is on the shelf of a data folder, newest first.

    Gives version, role ("champion" or "challenger" in the registry, else ""), forecaster, size_bytes,
    pinball (its loss on the windows it was judged on, NaN = unknown), said (of the gate). Raises
    RegistryError.
    """
    where = workspace or open_workspace(data_dir.expanduser(), uri)
    named = {
        found.version: role for role in (CHALLENGER, CHAMPION) if (found := where.registry.get_alias(role))
    }
    slips = where.store.index().versions
    rows = []
    for version in sorted(slips, key=lambda name: (len(name), name), reverse=True):
        stored = where.store.read(version)
        loss = stored.manifest.figures.get("challenger.pinball")
        told = (stored.manifest.forecaster, stored.size_bytes, np.nan if loss is None else loss)
        rows.append((version, named.get(version, ""), *told, slips[version].said))
    return pd.DataFrame(rows, columns=["version", "role", "forecaster", "size_bytes", "pinball", "said"])


def promote(
    version: str, *, data_dir: Path = DATA_DIR, uri: str = "", workspace: ModelWorkspace | None = None
) -> None:
    """Name the challenger champion in the registry.

    The engine of the data folder, or any that has this registry, takes it over within `registry.sync`
    (10 min), writes that into its audit, and keeps the one before to go back to. Raises ModelRefusedError for
    what did not pass the gate, RegistryError.
    """
    where = workspace or open_workspace(data_dir.expanduser(), uri)
    champion, challenger = where.registry.get_alias(CHAMPION), where.registry.get_alias(CHALLENGER)
    if champion is not None and champion.version == version:
        return
    if challenger is None or challenger.version != version:
        slip = where.store.index().versions.get(version)
        why = "there is no such version here" if slip is None else slip.said or "it is not the challenger"
        raise ModelRefusedError(
            f"version {version!r} cannot become champion: {why}; only the challenger can, which is "
            + (f"{challenger.version!r}" if challenger else "none")
        )
    where.registry.set_alias(CHAMPION, version)
    where.registry.set_alias(CHALLENGER, None)


def forecast(
    history: pd.DataFrame,
    *,
    version: str = "",
    data_dir: Path = DATA_DIR,
    uri: str = "",
    trusted: tuple[str, ...] = (),
    job: LoadJob | None = None,
    workspace: ModelWorkspace | None = None,
) -> pd.DataFrame:
    """How series go on, as the champion of the registry says, or another version.

    history : unique_id, ds, y; version : "" = the champion
    Gives what `trimtab.forecast` gives. Raises ModelRefusedError where there is no such version or it is not
    trusted, RegistryError.
    """
    wanted, where = job or LoadJob(), workspace or open_workspace(data_dir.expanduser(), uri, trusted)
    named = panel_from_history(history, wanted.step_s, window_s=wanted.window_s, max_series=wanted.most)
    values = _loaded(where, version).predict(named.panel, wanted.horizon, QUANTILES)
    ahead = np.arange(1, wanted.horizon + 1) * round(wanted.step_s * 1e9)
    stamps = (named.panel.end[:, None] + ahead).ravel().astype("datetime64[ns]")
    columns = {f"q{q:g}": rows.T.ravel() for q, rows in zip(QUANTILES, values, strict=True)}
    return pd.DataFrame({"unique_id": np.repeat(named.names, wanted.horizon), "ds": stamps, **columns})


def _loaded(place: ModelWorkspace, version: str) -> Forecaster:
    """From the registry itself: no engine and no data folder need to have it."""
    if version:
        stored = place.store.read(version)
    else:
        champion = place.registry.get_alias(CHAMPION)
        if champion is None:
            raise ModelRefusedError("there is no champion yet; train or submit one, and promote it")
        with TemporaryDirectory(prefix="trimtab-model-") as folder:
            stored = read_model(place.registry.fetch(champion, Path(folder)), champion.digest)
    return restore_forecaster(stored, place.trusted, place.make)


def _held(
    job: LoadJob, selector: str, history: History | pd.DataFrame, place: ModelWorkspace, recipe: Recipe | None
) -> TrainingResult:
    wanted = replace(job, selector=selector)

    def read() -> pd.DataFrame:
        if isinstance(history, pd.DataFrame):
            return history
        end = datetime.now(UTC)
        return history.read(selector, end - timedelta(seconds=wanted.window_s), end, wanted.step_s)

    return train_load(wanted, read, place, recipe=recipe, challenger_only=True)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)
