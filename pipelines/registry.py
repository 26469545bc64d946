"""The registry API for notebooks: train or submit models, promote versions, and forecast."""

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
    """Return the workspace of the load model in a data folder.

    uri     : address of an MLflow tracking server; "" = SQLite in the data folder
    trusted : type names that scikit-learn models may contain, see `restore_forecaster`
    """
    registry = MlflowRegistry(MODEL_NAME, data_dir / "mlflow", uri)
    store = ModelStore(data_dir / "models" / MODEL_NAME)
    runs = PipelineRuns(data_dir / "training" / MODEL_NAME, MODEL_NAME, _now, lambda: str(ULID()))
    return ModelWorkspace(registry, store, runs, trusted)


def submit(
    model: Any,  # noqa: ANN401 - any model
    selector: str,
    history: History | pd.DataFrame,
    *,
    data_dir: Path = DATA_DIR,
    uri: str = "",
    trusted: tuple[str, ...] = (),
    job: LoadJob | None = None,
    workspace: ModelWorkspace | None = None,
) -> TrainingResult:
    """Fit, evaluate and register a model of your own; a model that passes the gate becomes the challenger.

    model    : a scikit-learn regressor over `regression_features.FEATURES`, or a river forecaster
    selector : series to read, as the history's `read` accepts it
    history  : a `History`, or a table with unique_id, ds, y
    data_dir : data folder of the engine that will serve the model
    uri      : address of the tracking server, if the engine uses one
    trusted  : type names that the engine trusts (registry.trusted_types), such as "sklearn.tree._tree.Tree"
    job      : steps, horizon and window of the training; None = those of an engine with default settings

    `verdict` of the result states whether the model became the challenger, or why not. Raises InputError for
    an unsupported model, ModelRefusedError for untrusted types, HistoryError, RegistryError, BusyError.
    """
    training_job = job or LoadJob()
    recipe = recipe_for(model, training_job.horizon)
    training_job = replace(training_job, forecaster=recipe.name, parameters=dict(recipe.parameters))
    return _train_challenger(
        training_job,
        selector,
        history,
        workspace or open_workspace(data_dir.expanduser(), uri, trusted),
        recipe,
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
    """Train a forecaster of the catalogue (`job.forecaster`); parameters and errors are those of `submit`.

    A model that passes the gate becomes the challenger, even if there is no champion; see `promote`.
    """
    chosen = workspace or open_workspace(data_dir.expanduser(), uri, trusted)
    return _train_challenger(job or LoadJob(), selector, history, chosen, None)


def versions(
    *, data_dir: Path = DATA_DIR, uri: str = "", workspace: ModelWorkspace | None = None
) -> pd.DataFrame:
    """List the versions in a data folder, newest first.

    Returns version, role ("champion" or "challenger" in the registry, else ""), forecaster, size_bytes,
    pinball (loss in the evaluation, NaN = unknown) and said (result of the gate). Raises RegistryError.
    """
    chosen = workspace or open_workspace(data_dir.expanduser(), uri)
    roles = {
        found.version: role for role in (CHALLENGER, CHAMPION) if (found := chosen.registry.get_alias(role))
    }
    entries = chosen.store.index().versions
    rows = []
    for version in sorted(entries, key=lambda name: (len(name), name), reverse=True):
        stored = chosen.store.read(version)
        loss = stored.manifest.figures.get("challenger.pinball")
        details = (stored.manifest.forecaster, stored.size_bytes, np.nan if loss is None else loss)
        rows.append((version, roles.get(version, ""), *details, entries[version].said))
    return pd.DataFrame(rows, columns=["version", "role", "forecaster", "size_bytes", "pinball", "said"])


def promote(
    version: str, *, data_dir: Path = DATA_DIR, uri: str = "", workspace: ModelWorkspace | None = None
) -> None:
    """Make the challenger the champion in the registry.

    Each engine that uses this registry loads the new champion within `registry.sync` (10 min), records it in
    its audit log and keeps the previous one for a rollback. Raises ModelRefusedError for a version that is
    not the challenger, RegistryError.
    """
    chosen = workspace or open_workspace(data_dir.expanduser(), uri)
    champion, challenger = chosen.registry.get_alias(CHAMPION), chosen.registry.get_alias(CHALLENGER)
    if champion is not None and champion.version == version:
        return
    if challenger is None or challenger.version != version:
        entry = chosen.store.index().versions.get(version)
        reason = "it does not exist here" if entry is None else entry.said or "it is not the challenger"
        raise ModelRefusedError(
            f"version {version!r} cannot become champion: {reason}; only the challenger can, which is "
            + (f"{challenger.version!r}" if challenger else "none")
        )
    chosen.registry.set_alias(CHAMPION, version)
    chosen.registry.set_alias(CHALLENGER, None)


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
    """Forecast series with the registry's champion or another version.

    history : unique_id, ds, y
    version : "" = the champion

    Returns a table like that of `trimtab.forecast`. Raises ModelRefusedError for an unknown or untrusted
    version, RegistryError.
    """
    training_job, chosen = job or LoadJob(), workspace or open_workspace(data_dir.expanduser(), uri, trusted)
    named_panel = panel_from_history(
        history, training_job.step_s, window_s=training_job.window_s, max_series=training_job.most
    )
    values = _load_forecaster(chosen, version).predict(named_panel.panel, training_job.horizon, QUANTILES)
    ahead = np.arange(1, training_job.horizon + 1) * round(training_job.step_s * 1e9)
    stamps = (named_panel.panel.end[:, None] + ahead).ravel().astype("datetime64[ns]")
    columns = {f"q{q:g}": rows.T.ravel() for q, rows in zip(QUANTILES, values, strict=True)}
    return pd.DataFrame(
        {"unique_id": np.repeat(named_panel.names, training_job.horizon), "ds": stamps, **columns}
    )


def _load_forecaster(workspace: ModelWorkspace, version: str) -> Forecaster:
    """Load the champion from the registry, or a version from the data folder."""
    if version:
        stored = workspace.store.read(version)
    else:
        champion = workspace.registry.get_alias(CHAMPION)
        if champion is None:
            raise ModelRefusedError("there is no champion yet; train or submit a model, then promote it")
        with TemporaryDirectory(prefix="trimtab-model-") as folder:
            stored = read_model(workspace.registry.fetch(champion, Path(folder)), champion.digest)
    return restore_forecaster(stored, workspace.trusted, workspace.make)


def _train_challenger(
    job: LoadJob,
    selector: str,
    history: History | pd.DataFrame,
    workspace: ModelWorkspace,
    recipe: Recipe | None,
) -> TrainingResult:
    training_job = replace(job, selector=selector)

    def read() -> pd.DataFrame:
        if isinstance(history, pd.DataFrame):
            return history
        end = datetime.now(UTC)
        return history.read(
            selector, end - timedelta(seconds=training_job.window_s), end, training_job.step_s
        )

    return train_load(training_job, read, workspace, recipe=recipe, challenger_only=True)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)
