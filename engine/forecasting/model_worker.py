"""What is done with models in a process of its own: `python -m trimtab.engine.forecasting.model_worker VERB`.

It is nice to the engine, ends with it (its standard input ends), reads one line of JSON and writes lines of
JSON: `{"run": ...}` as a run gets on, at last `{"result": ...}` or `{"error": ..., "kind": ...}`.
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
from trimtab.engine.forecasting.learning_exclusions import unlearnt
from trimtab.engine.forecasting.load_history import Loads, recorded_loads
from trimtab.engine.settings import Prometheus, Settings
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.store import join_store
from trimtab.engine.store.action_ledger import SqlLedger
from trimtab.engine.store.audit_anchor import ANCHOR
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import SeriesInfo
from trimtab.pipelines.io.panel import panel_of
from trimtab.pipelines.io.stored_forecasts import NOW, keep
from trimtab.pipelines.model_registry.mlflow_registry import Registry
from trimtab.pipelines.model_registry.model_store import Shelf
from trimtab.pipelines.serving import past_forecasts
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.serving.live_accuracy import Seen, drifted, shadow, watch
from trimtab.pipelines.train_load import MODEL, LoadJob, Place, Told, Trained, train_load
from trimtab.pipelines.training.excluded_windows import Left, left_out
from trimtab.pipelines.training.pipeline_runs import Run, Runs
from trimtab.pipelines.training.registry_sync import sync

NICER = 10
Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the data folder keeps models and forecasts."""

    data: Path

    @property
    def forecasts(self) -> Path:
        """Of loads."""
        return self.data / "forecasts" / MODEL

    def place(self, settings: Settings, environ: MutableMapping[str, str], run_id: str = "") -> Place:
        """Registry, shelf and runs; run_id : of the next run, "" = a new one."""
        wanted = settings.registry
        if wanted.username:
            environ["MLFLOW_TRACKING_USERNAME"] = wanted.username
            environ["MLFLOW_TRACKING_PASSWORD"] = _secret(settings)
        registry = Registry(MODEL, self.data / "mlflow", wanted.tracking_uri, environ)
        runs = Runs(self.data / "training" / MODEL, MODEL, SystemClock().now, lambda: run_id or str(ULID()))
        return Place(registry, Shelf(self.data / "models" / MODEL), runs, wanted.trusted_types)


def _secret(settings: Settings) -> str:
    wanted = settings.registry
    if wanted.password_file is not None:
        try:
            return wanted.password_file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"registry.password_file {wanted.password_file} cannot be read: {error}"
            ) from None
    return wanted.password.get_secret_value() if wanted.password is not None else ""


def job_of(settings: Settings, selector: str = "") -> LoadJob:
    """What the settings ask to be trained."""
    wanted = settings.schedulers.load
    return LoadJob(
        selector or wanted.series, parameters={"longest_s": wanted.horizon},
        step_s=wanted.step, horizon=wanted.rows, window_s=wanted.fit_window,
        most=wanted.max_series,
    )  # fmt: skip


def learnable(settings: Settings, cache: Path | None = None) -> Left:
    """unique_id, ds, y of the loads, without incidents and what followed own actions.

    Raises SourceError, HistoryError where too little would be left.
    """
    with _joined(settings) as store:
        found = asyncio.run(recorded_loads(settings, store, cache))
    return without_unlearnt(settings, found.frame, found.infos)


def without_unlearnt(
    settings: Settings, frame: pd.DataFrame, infos: Mapping[str, SeriesInfo] | None = None
) -> Left:
    """A history without incidents and what followed own actions. Raises HistoryError.

    infos : of its series, by name; None = they are not known, and what an own action did may be any of them
    """
    window_s, data = settings.schedulers.load.fit_window, settings.settings.data_dir
    since = SystemClock().now() - int(window_s * 1e9)
    with _joined(settings) as store:
        windows = unlearnt(store, SqlLedger(store.fenced, data / ANCHOR), since, infos or {})
    return left_out(frame, windows, window_s)


@contextmanager
def _joined(settings: Settings) -> Iterator[EventStore]:
    store = join_store(settings.settings.data_dir, SystemClock().now)
    try:
        yield store
    finally:
        store.close()


def retrain(settings: Settings, request: Request, told: Told, environ: MutableMapping[str, str]) -> Trained:
    """Train the load model; where there is a champion it runs beside it first, if the settings say so."""
    folders = Folders(settings.settings.data_dir)
    place = folders.place(settings, environ, str(request.get("id", "")))
    hold = settings.registry.shadow > 0 and place.shelf.book().champion is not None
    cache = folders.forecasts / "history.parquet"
    return train_load(
        job_of(settings), lambda: learnable(settings, cache), place, by=str(request.get("by", "")), hold=hold,
        as_set=True, told=told,
    )  # fmt: skip


def forecast(settings: Settings, environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Forecast all loads, look how earlier forecasts turned out, and end a shadow that is over."""
    folders = Folders(settings.settings.data_dir)
    place, wanted = folders.place(settings, environ), settings.schedulers.load
    with _joined(settings) as store:
        found = asyncio.run(recorded_loads(settings, store, folders.forecasts / "history.parquet"))
    if not len(found.frame):
        return {"series": 0}
    named = panel_of(found.frame, wanted.step, window_s=wanted.fit_window, most=wanted.max_series)
    ahead = forecast_load(named, wanted.rows, place)
    _keep_infos(folders.forecasts, found)
    keep(folders.forecasts / NOW, ahead)
    past_forecasts.remember(folders.forecasts / past_forecasts.FILE, ahead)
    shadow_s = settings.registry.shadow
    seen, over = watch(folders.forecasts, named, ahead, min(shadow_s, 6 * 3600.0))
    return {
        "series": len(ahead.names), "version": ahead.version, "refused": dict(ahead.refused),
        "unfit": dict(ahead.unfit),
        "error": None if seen is None else asdict(seen),
        "drifted": drifted(over, ahead.version, _expected(place, ahead.version)),
        "shadow": _end_shadow(place, over, ahead.version, ahead.challenger_version, shadow_s, wanted.step),
    }  # fmt: skip


def _keep_infos(folder: Path, found: Loads) -> None:
    from trimtab.pipelines.training.pipeline_runs import write_json

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {name: [info.key.id, info.key.source, info.unit] for name, info in found.infos.items()}
    write_json(folder / "series.json", told)


def _expected(place: Place, version: str) -> float | None:
    """The loss of a version at the gate."""
    if not version:
        return None
    return place.shelf.read(version).manifest.figures.get("challenger.pinball")


def _end_shadow(
    place: Place, over: list[Seen], champion: str, challenger: str, shadow_s: float, step_s: float
) -> str:
    """What was decided of the challenger, in words; "" = nothing yet."""
    if not challenger:
        return ""
    why = shadow(over, champion, challenger, shadow_s, step_s)
    if why is None:
        return ""
    if why:
        place.shelf.dismiss(challenger, f"refused: {why}")
        return f"version {challenger} does not become champion: {why}"
    place.shelf.promote(challenger, "was no worse beside the champion", untold=True, by="shadow")
    return f"version {challenger} is the champion: it was no worse beside the one before"


def work(verb: str, request: Request, environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Do it; what came of it. Raises TrimtabError."""
    settings = settings_of(request, environ)
    if verb == "retrain":
        done = retrain(settings, request, _tell, environ)
        return {"version": done.version, "promoted": done.promoted, "said": done.run.said}
    if verb == "forecast":
        return forecast(settings, environ)
    folders = Folders(settings.settings.data_dir)
    place = folders.place(settings, environ)
    return asdict(sync(place.registry, place.shelf, SystemClock().now()))


def settings_of(request: Request, environ: Mapping[str, str]) -> Settings:
    """The engine's settings, with the Prometheus that it found."""
    config = request.get("config")
    settings = load_settings(Path(config) if config else None, environ, request.get("overrides", {}))
    if request.get("found") and settings.sources.prometheus is None:
        sources = settings.sources.model_copy(update={"prometheus": Prometheus(url=request["found"])})
        settings = settings.model_copy(update={"sources": sources})
    return settings


def _tell(run: Run) -> None:
    _say({"run": {**asdict(run), "request": None}})


def _say(told: Mapping[str, object]) -> None:
    print(json.dumps(told), flush=True)


def _end_with_the_engine() -> None:
    """Whoever started us holds our standard input open; when it ends, so do we, wherever we are."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Read the request, do what the verb says, say what came of it."""
    os.nice(NICER)
    request = json.loads(_first_line())
    _end_with_the_engine()
    try:
        _say({"result": work(sys.argv[1], request, os.environ)})
    except TrimtabError as error:
        _say({"error": str(error), "kind": type(error).__name__})


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    return line


if __name__ == "__main__":
    main()
