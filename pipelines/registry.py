"""The registry as notebooks use it: `submit` makes a model of your own a challenger."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from ulid import ULID

from trimtab.pipelines.history import History
from trimtab.pipelines.mlflow_registry import Registry
from trimtab.pipelines.runs import Runs
from trimtab.pipelines.shelf import Shelf
from trimtab.pipelines.submitted import recipe_of
from trimtab.pipelines.train_load import MODEL, LoadJob, Place, Trained, train_load

DATA_DIR = Path("~/.local/share/trimtab")


def place_in(data_dir: Path, uri: str = "", trusted: tuple[str, ...] = ()) -> Place:
    """Registry, shelf and runs of the load model in a data folder, or at a tracking server."""
    shelf, runs = Shelf(data_dir / "models" / MODEL), data_dir / "training" / MODEL
    registry = Registry(MODEL, data_dir / "mlflow", uri)
    return Place(registry, shelf, Runs(runs, MODEL, _now, lambda: str(ULID())), trusted)


def submit(
    model: Any,  # noqa: ANN401 - anybody's model
    selector: str,
    history: History | pd.DataFrame,
    *,
    data_dir: Path = DATA_DIR,
    uri: str = "",
    trusted: tuple[str, ...] = (),
    job: LoadJob | None = None,
    place: Place | None = None,
) -> Trained:
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
    wanted = replace(job or LoadJob(), selector=selector)
    recipe = recipe_of(model, wanted.horizon)
    told = replace(wanted, forecaster=recipe.name, parameters=dict(recipe.parameters))
    where = place or place_in(data_dir.expanduser(), uri, trusted)

    def read() -> pd.DataFrame:
        if isinstance(history, pd.DataFrame):
            return history
        end = datetime.now(UTC)
        return history.read(selector, end - timedelta(seconds=told.window_s), end, told.step_s)

    return train_load(told, read, where, recipe=recipe, hold=True)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)
