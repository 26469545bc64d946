"""Model work in a child process: `python -m trimtab.engine.forecasting.model_worker VERB`.

The process runs at low CPU priority and ends when its standard input closes, that is, with the engine. It
reads one line of JSON and writes lines of JSON: `{"run": ...}` on progress, at last `{"result": ...}` or
`{"error": ..., "kind": ...}`.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from ulid import ULID

from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import SettingsError, TrimtabError
from trimtab.engine.forecasting.learning_exclusions import excluded_windows
from trimtab.engine.forecasting.load_history import LoadHistory, read_load_history
from trimtab.engine.settings import Prometheus, Settings
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.store import join_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import SeriesInfo
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.io.stored_forecasts import FORECASTS_FILE, write_forecasts
from trimtab.pipelines.model_registry.mlflow_registry import MlflowRegistry
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.serving import past_forecasts
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.serving.live_accuracy import (
    LiveAccuracy,
    has_drifted,
    shadow_result,
    update_live_accuracy,
)
from trimtab.pipelines.train_load import (
    MODEL_NAME,
    LoadJob,
    ModelWorkspace,
    RunListener,
    TrainingResult,
    train_load,
)
from trimtab.pipelines.training.excluded_windows import FilteredHistory, exclude_windows
from trimtab.pipelines.training.pipeline_runs import PipelineRuns, RunRecord
from trimtab.pipelines.training.registry_sync import sync_registry

NICENESS = 10
Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Folders of models and forecasts inside the data folder."""

    data_dir: Path

    @property
    def forecasts(self) -> Path:
        """Folder of load forecasts."""
        return self.data_dir / "forecasts" / MODEL_NAME

    def workspace(
        self, settings: Settings, environ: MutableMapping[str, str], run_id: str = ""
    ) -> ModelWorkspace:
        """Return registry, model store and runs; `run_id` is the id of the next run, "" = a new one."""
        registry_settings = settings.registry
        if registry_settings.username:
            environ["MLFLOW_TRACKING_USERNAME"] = registry_settings.username
            environ["MLFLOW_TRACKING_PASSWORD"] = _registry_password(settings)
        registry = MlflowRegistry(
            MODEL_NAME, self.data_dir / "mlflow", registry_settings.tracking_uri, environ
        )
        runs = PipelineRuns(
            self.data_dir / "training" / MODEL_NAME,
            MODEL_NAME,
            SystemClock().now,
            lambda: run_id or str(ULID()),
        )
        return ModelWorkspace(
            registry, ModelStore(self.data_dir / "models" / MODEL_NAME), runs, registry_settings.trusted_types
        )


def _registry_password(settings: Settings) -> str:
    registry_settings = settings.registry
    if registry_settings.password_file is not None:
        try:
            return registry_settings.password_file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"cannot read registry.password_file {registry_settings.password_file}: {error}"
            ) from None
    return registry_settings.password.get_secret_value() if registry_settings.password is not None else ""


def load_job(settings: Settings, selector: str = "") -> LoadJob:
    """Return the training job that the settings describe; `selector` replaces `schedulers.load.series`."""
    scheduler = settings.schedulers.load
    return LoadJob(
        selector or scheduler.series, parameters={"longest_s": scheduler.horizon},
        step_s=scheduler.step, horizon=scheduler.rows, window_s=scheduler.fit_window,
        most=scheduler.max_series,
    )  # fmt: skip


def read_training_history(settings: Settings, cache: Path | None = None) -> FilteredHistory:
    """Read the loads (unique_id, ds, y) without incidents and the time after own actions.

    Raises SourceError; HistoryError if too little history is left.
    """
    with _open_store(settings) as store:
        history = asyncio.run(read_load_history(settings, store, cache))
    return exclude_unlearnable(settings, history.frame, history.infos)


def exclude_unlearnable(
    settings: Settings, frame: pd.DataFrame, infos: Mapping[str, SeriesInfo] | None = None
) -> FilteredHistory:
    """Remove incidents and the time after own actions from a history. Raises HistoryError.

    infos : name -> info of its series; None = unknown, then an own action excludes all series
    """
    window_s, data = settings.schedulers.load.fit_window, settings.settings.data_dir
    since = SystemClock().now() - int(window_s * 1e9)
    with _open_store(settings) as store:
        windows = excluded_windows(store, ActionLedger(store.fenced, data / ANCHOR_FILE), since, infos or {})
    return exclude_windows(frame, windows, window_s)


@contextmanager
def _open_store(settings: Settings) -> Iterator[EventStore]:
    store = join_store(settings.settings.data_dir, SystemClock().now)
    try:
        yield store
    finally:
        store.close()


def retrain(
    settings: Settings, request: Request, on_change: RunListener, environ: MutableMapping[str, str]
) -> TrainingResult:
    """Train the load model. If the settings ask for it, a new version first runs in shadow."""
    folders = ModelFolders(settings.settings.data_dir)
    workspace = folders.workspace(settings, environ, str(request.get("id", "")))
    in_shadow = settings.registry.shadow > 0 and workspace.store.index().champion is not None
    cache = folders.forecasts / "history.parquet"
    return train_load(
        load_job(settings), lambda: read_training_history(settings, cache), workspace,
        by=str(request.get("by", "")), challenger_only=in_shadow, from_settings=True, on_change=on_change,
    )  # fmt: skip


def forecast(settings: Settings, environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Forecast all loads, measure the error of earlier forecasts, and end a finished shadow period."""
    folders = ModelFolders(settings.settings.data_dir)
    workspace, scheduler = folders.workspace(settings, environ), settings.schedulers.load
    with _open_store(settings) as store:
        history = asyncio.run(read_load_history(settings, store, folders.forecasts / "history.parquet"))
    if not len(history.frame):
        return {"series": 0}
    panel = panel_from_history(
        history.frame, scheduler.step, window_s=scheduler.fit_window, max_series=scheduler.max_series
    )
    forecasts = forecast_load(panel, scheduler.rows, workspace)
    _write_series_infos(folders.forecasts, history)
    write_forecasts(folders.forecasts / FORECASTS_FILE, forecasts)
    past_forecasts.record_forecasts(folders.forecasts / past_forecasts.PAST_FORECASTS_FILE, forecasts)
    shadow_s = settings.registry.shadow
    accuracy, past_accuracies = update_live_accuracy(
        folders.forecasts, panel, forecasts, min(shadow_s, 6 * 3600.0)
    )
    return {
        "series": len(forecasts.names), "version": forecasts.version, "refused": dict(forecasts.refused),
        "unfit": dict(forecasts.incompatible),
        "error": None if accuracy is None else asdict(accuracy),
        "drifted": has_drifted(past_accuracies, forecasts.version, _gate_loss(workspace, forecasts.version)),
        "shadow": _end_shadow(
            workspace, past_accuracies, forecasts.version, forecasts.challenger_version,
            shadow_s, scheduler.step
        ),
    }  # fmt: skip


def _write_series_infos(folder: Path, history: LoadHistory) -> None:
    from trimtab.pipelines.training.pipeline_runs import write_json

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = {name: [info.key.id, info.key.source, info.unit] for name, info in history.infos.items()}
    write_json(folder / "series.json", rows)


def _gate_loss(workspace: ModelWorkspace, version: str) -> float | None:
    """Return the loss of a version at its promotion gate; None = unknown."""
    if not version:
        return None
    return workspace.store.read(version).manifest.figures.get("challenger.pinball")


def _end_shadow(
    workspace: ModelWorkspace,
    past_accuracies: list[LiveAccuracy],
    champion: str,
    challenger: str,
    shadow_s: float,
    step_s: float,
) -> str:
    """Return the decision about the challenger in words; "" = not decided yet."""
    if not challenger:
        return ""
    refusal = shadow_result(past_accuracies, champion, challenger, shadow_s, step_s)
    if refusal is None:
        return ""
    if refusal:
        workspace.store.reject(challenger, f"refused: {refusal}")
        return f"version {challenger} does not become champion: {refusal}"
    workspace.store.promote(
        challenger, "was no worse than the champion in shadow", registry_pending=True, by="shadow"
    )
    return f"version {challenger} is the champion: it was no worse than its predecessor in shadow"


def run_verb(verb: str, request: Request, environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Run retrain, forecast or sync and return its result. Raises TrimtabError."""
    settings = load_worker_settings(request, environ)
    if verb == "retrain":
        result = retrain(settings, request, _report_run, environ)
        return {"version": result.version, "promoted": result.promoted, "said": result.run.said}
    if verb == "forecast":
        return forecast(settings, environ)
    folders = ModelFolders(settings.settings.data_dir)
    workspace = folders.workspace(settings, environ)
    return asdict(sync_registry(workspace.registry, workspace.store, SystemClock().now()))


def load_worker_settings(request: Request, environ: Mapping[str, str]) -> Settings:
    """Return the engine's settings, with the Prometheus it found."""
    config = request.get("config")
    settings = load_settings(Path(config) if config else None, environ, request.get("overrides", {}))
    if request.get("found") and settings.sources.prometheus is None:
        sources = settings.sources.model_copy(update={"prometheus": Prometheus(url=request["found"])})
        settings = settings.model_copy(update={"sources": sources})
    return settings


def _report_run(run: RunRecord) -> None:
    _write_message({"run": {**asdict(run), "request": None}})


def _write_message(message: Mapping[str, object]) -> None:
    print(json.dumps(message), flush=True)


def _exit_with_parent() -> None:
    """Exit when standard input closes: the engine holds it open as long as it runs."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Read the request, run the verb and write its result or error."""
    os.nice(NICENESS)
    request = json.loads(_read_first_line())
    _exit_with_parent()
    try:
        _write_message({"result": run_verb(sys.argv[1], request, os.environ)})
    except TrimtabError as error:
        _write_message({"error": str(error), "kind": type(error).__name__})


def _read_first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    return line


if __name__ == "__main__":
    main()
