"""Serves load forecasts from memory, refreshes them in the background and manages model versions."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.settings import LoadScheduler, ModelRegistry
from trimtab.engine.types import Forecast, ModelVersion, ModelView, PastForecast
from trimtab.models.forecasting.confidence import confidence
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.stored_forecasts import FORECASTS_FILE, QUANTILES, StoredForecasts, read_forecasts
from trimtab.pipelines.model_registry.artifact import MANIFEST_FILE
from trimtab.pipelines.model_registry.mlflow_registry import registry_file_stamps
from trimtab.pipelines.model_registry.model_store import ChampionChange, ModelIndex, ModelStore
from trimtab.pipelines.serving.past_forecasts import (
    LEAD_S,
    PAST_FORECASTS_FILE,
    SHOWN_QUANTILES,
    read_past_forecasts,
)

log = structlog.get_logger(__name__)

MODEL_NAME = "load"
ENGINE_ACTOR = "trimtab"
_NS = 1_000_000_000


class ForecastService:
    """Forecasts and model versions of the load model.

    data_dir  : data folder
    scheduler : settings of the load scheduler
    registry  : settings of the model registry
    process   : child process that forecasts and syncs
    ledger    : audit of model changes
    clock     : clock of the engine
    on_error  : called with model, version and forecast error after each refresh
    """

    def __init__(
        self,
        data_dir: Path,
        scheduler: LoadScheduler,
        registry: ModelRegistry,
        process: ModelProcess,
        ledger: Ledger,
        clock: Clock,
        on_error: Callable[[str, str, float | None], None],
    ) -> None:
        self.scheduler = scheduler
        self.registry = registry
        self.model_store = ModelStore(data_dir / "models" / MODEL_NAME)
        self.drift_event = asyncio.Event()
        """Set when the serving version errs much more than at its promotion gate."""
        self.incompatible_champion = ""
        """Champion trained for another step or horizon than the settings ask for; "" = it is compatible."""
        self._folder = data_dir / "forecasts" / MODEL_NAME
        self._registry_folder = data_dir / "mlflow"
        self._synced_stamp: tuple[object, ...] | None = None
        self._process = process
        self._ledger = ledger
        self._clock = clock
        self._on_error = on_error
        self._forecasts: dict[str, Forecast] = {}
        self._live_errors: dict[str, float | None] = {}
        self._stored_forecasts: StoredForecasts | None = None
        self._problems: dict[str, str] = {}
        self.error: float | None = None
        """Error of the serving version at the last refresh, relative to seasonal naive; None = unknown."""
        self.on_error_known: Callable[[], Awaitable[None]] | None = None
        """Called after each refresh with a known error, so that the error is watched as a series."""

    async def resume(self) -> None:
        """Load the stored forecasts and append missing audit rows."""
        await self._load_forecasts()
        try:
            await self.audit_champion_changes()
        except StoreError as error:
            self._set_problem("store", str(error))

    async def audit_champion_changes(self) -> None:
        """Append audit rows for champion changes made in other processes. Raises StoreError."""
        await asyncio.to_thread(audit_champion_changes, self.model_store, self._ledger, MODEL_NAME)

    async def refresh(self) -> None:
        """Forecast again. On failure the previous forecasts stay, and `model_view` reports the problem."""
        try:
            result = await self._process("forecast")
        except ModelProcessError as error:
            self.error = None
            self._set_problem("forecast", str(error))
            return
        self._set_problem("forecast", "")
        self._set_problem(
            "settings", await self._check_compatibility(result.get("unfit", {}), result.get("version", ""))
        )
        await self._load_forecasts()
        await self.audit_champion_changes()
        await self._report_refused(result.get("refused", {}))
        accuracy = result.get("error")
        self.error = None if accuracy is None else accuracy["error"]
        if self.error is not None and self.on_error_known is not None:
            await self.on_error_known()
        if accuracy is not None:
            self._live_errors = {
                accuracy["challenger_version"]: accuracy["challenger"],
                accuracy["version"]: accuracy["error"],
            }
            self._on_error(MODEL_NAME, accuracy["version"] or "seasonal_naive", accuracy["error"])
        if result.get("shadow"):
            await self._append_audit(
                "model shadow ended", MODEL_NAME, ENGINE_ACTOR, {"said": result["shadow"]}
            )
        if result.get("drifted"):
            log.warning("forecast_drift_detected", version=result["version"])
            self.drift_event.set()

    async def sync(self) -> None:
        """Exchange champions with the model registry; without an answer nothing changes.

        MLflow takes seconds of CPU to load, so a registry in the data folder is skipped while neither its
        files nor the model store changed since the last sync.
        """
        stamp = await asyncio.to_thread(self._registry_stamp)
        refused: Mapping[str, str] = {}
        if stamp is None or stamp not in {self._synced_stamp, ()}:
            try:
                refused = (await self._process("sync"))["refused"]
            except ModelProcessError as error:
                self._set_problem("sync", str(error))
                return
            self._set_problem("sync", "")
            self._synced_stamp = stamp
        await self.audit_champion_changes()
        await self._report_refused(refused)

    def _registry_stamp(self) -> tuple[object, ...] | None:
        """Return the state a sync would see; () = nothing to sync, None = the registry must be queried."""
        index = self.model_store.index()
        if self.registry.tracking_uri or index.untold or index.refused:
            return None
        files = registry_file_stamps(self._registry_folder)
        return (files, index.champion, index.challenger) if files else ()

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """Return forecasts by id of the series; `after` is the last id of the previous page."""
        words = search.lower().split()
        found = (
            forecast
            for key, forecast in self._forecasts.items()
            if (series_id is None or key == series_id)
            and (after is None or key > after)
            and all(word in forecast.series.lower() for word in words)
        )
        return [forecast for forecast, _ in zip(found, range(limit), strict=False)]

    async def past_forecast(self, series_id: str) -> PastForecast:
        """Return the past forecasts of a series; empty if none are kept."""
        now = self._forecasts.get(series_id)
        past = (
            None
            if now is None
            else await asyncio.to_thread(read_past_forecasts, self._folder / PAST_FORECASTS_FILE, now.series)
        )
        if past is None:
            return PastForecast(series_id, LEAD_S, np.empty(0, np.int64), {})
        values = {f"{q:g}": past.values[i] for i, q in enumerate(SHOWN_QUANTILES)}
        return PastForecast(series_id, past.lead_s, past.time, values)

    async def model_view(self) -> ModelView:
        """Return the model with its versions as the API shows it."""
        index = await asyncio.to_thread(self.model_store.index)
        versions = await asyncio.to_thread(self._version_views, index)
        stored_forecasts = self._stored_forecasts
        made = (
            None
            if stored_forecasts is None or not len(stored_forecasts.end)
            else int(stored_forecasts.end.max())
        )
        serving = "" if stored_forecasts is None else stored_forecasts.version
        return ModelView(
            MODEL_NAME, serving, made, len(self._forecasts), self._live_errors.get(serving), versions,
            index.refused, self.registry.tracking_uri or "SQLite in the data folder",
            "; ".join(self._problems.values()),
        )  # fmt: skip

    async def promote(self, version: str, by: str) -> ModelView:
        """Make a version the champion. Raises NotFoundError, RefusedError."""
        index = await asyncio.to_thread(self.model_store.index)
        if version not in index.versions:
            raise NotFoundError(f"model {MODEL_NAME} has no version {version!r} to promote")
        await self._append_audit("model promoted", f"{MODEL_NAME}/{version}", by, {"before": index.champion})
        await self._change_champion(
            version, by, lambda: self.model_store.promote(version, f"promoted by {by}", registry_pending=True)
        )
        return await self.model_view()

    async def rollback(self, by: str) -> ModelView:
        """Restore the previous champion. Raises ConflictError if there is none, RefusedError."""
        index = await asyncio.to_thread(self.model_store.index)
        if index.previous is None:
            raise ConflictError(f"model {MODEL_NAME} has no previous champion to roll back to")
        await self._append_audit(
            "model rolled back", f"{MODEL_NAME}/{index.previous}", by, {"before": index.champion}
        )
        await self._change_champion(index.previous, by, self.model_store.rollback)
        return await self.model_view()

    async def _change_champion(self, version: str, by: str, change: Callable[[], ModelIndex]) -> None:
        """Carry out a change that is already in the audit; a refusal is appended to the audit, too."""
        try:
            await asyncio.to_thread(change)
        except ModelRefusedError as error:
            await self._append_audit(
                "model refused", f"{MODEL_NAME}/{version}", by, {"why": str(error)[:1000]}
            )
            raise RefusedError(str(error)) from error

    async def _load_forecasts(self) -> None:
        stored_forecasts = await asyncio.to_thread(read_forecasts, self._folder / FORECASTS_FILE)
        infos = await asyncio.to_thread(_read_series_infos, self._folder / "series.json")
        if stored_forecasts is not None:
            self._stored_forecasts, self._forecasts = (
                stored_forecasts,
                forecasts_by_series_id(stored_forecasts, infos),
            )

    async def _check_compatibility(self, unfit: Mapping[str, str], serving: str) -> str:
        """Return the problem of a champion that does not fit the settings; "" = it fits."""
        champion = (await asyncio.to_thread(self.model_store.index)).champion or ""
        self.incompatible_champion = champion if champion in unfit else ""
        if not self.incompatible_champion:
            return ""
        forecaster = f"version {serving}" if serving else "seasonal naive"
        return (
            f"the champion, version {champion}, does not fit schedulers.load: {unfit[champion]}; "
            f"{forecaster} forecasts until a new version passes the gate. "
            "Training starts as soon as there is enough "
            "history; to try now, choose Train now or run `trimtab retrain`"
        )

    async def _report_refused(self, refused: Mapping[str, str]) -> None:
        for version, why in refused.items():
            log.error("model_refused", version=version, reason=why)
            await self._append_audit(
                "model refused", f"{MODEL_NAME}/{version}", ENGINE_ACTOR, {"why": why[:1000]}
            )

    async def _append_audit(self, what: str, subject: str, by: str, details: dict[str, Any]) -> None:
        """Append an audit row before the change is made. Raises StoreError."""
        await asyncio.to_thread(self._ledger.append_audit, what, subject, by, details)

    def _set_problem(self, what: str, why: str) -> None:
        """Set the problem of one kind of work; "" = solved."""
        before = self._problems.pop(what, "")
        if why:
            self._problems[what] = why
            if why != before:
                log.warning("model_work_failed", reason=why)

    def _version_views(self, index: ModelIndex) -> tuple[ModelVersion, ...]:
        roles = {index.previous: "previous", index.challenger: "challenger", index.champion: "champion"}
        return tuple(
            _version_view(
                self.model_store.folder / version, version, roles.get(version, ""), index, self._live_errors
            )
            for version in sorted(index.versions, key=lambda name: (len(name), name), reverse=True)
        )

    async def run(self, first_s: float) -> None:
        """Refresh forecasts and sync the registry until cancelled; starts after `first_s` seconds."""
        await self._sleep(first_s)
        synced = 0
        while True:
            started = self._clock.now()
            try:
                index = await asyncio.to_thread(self.model_store.index)
                if index.untold or started - synced >= self.registry.sync * _NS:
                    synced = started
                    await self.sync()
                await self.refresh()
                self._set_problem("store", "")
            except StoreError as error:
                self._set_problem("store", str(error))
            await self._clock.sleep_until(started + int(self.scheduler.refresh * _NS))

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + int(seconds * _NS))


def forecasts_by_series_id(stored: StoredForecasts, infos: Mapping[str, list[str]]) -> dict[str, Forecast]:
    """Return forecasts by id of the series, sorted; series without a finite forecast are left out.

    infos : name of a series -> id, source, unit
    """
    step = round(stored.step_s * _NS)
    is_known = np.isfinite(stored.values).all(axis=(0, 1))
    found = {}
    for k in np.flatnonzero(is_known).tolist():
        name, made = stored.names[k], int(stored.end[k])
        if name not in infos:
            continue
        series_id, source, unit = infos[name]
        values = {f"{q:g}": stored.values[i, :, k].astype(np.float64) for i, q in enumerate(QUANTILES)}
        found[series_id] = Forecast(
            series_id, name, source, unit, made, made + step, stored.step_s, values, stored.model,
            stored.version, confidence(float(stored.history_s[k])).word, float(stored.history_s[k]),
        )  # fmt: skip
    return dict(sorted(found.items()))


def _version_view(
    folder: Path, version: str, role: str, index: ModelIndex, live: Mapping[str, float | None]
) -> ModelVersion:
    entry = index.versions[version]
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        size = sum(path.stat().st_size for path in folder.iterdir())
        figures = {name: value for name, value in manifest["figures"].items() if value is not None}
        until = manifest["trained"].get("until")
        kind, forecaster = str(manifest["kind"]), str(manifest["forecaster"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        size, figures, until, kind, forecaster = 0, {}, None, "", ""
    return ModelVersion(
        version, role, kind, forecaster, entry.stored, until, size, figures, live.get(version), entry.said
    )


def _read_series_infos(path: Path) -> dict[str, list[str]]:
    try:
        infos: dict[str, list[str]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return infos


def audit_champion_changes(
    model_store: ModelStore, ledger: Ledger, model: str, person: str = "", command: str = ""
) -> None:
    """Append the audit rows still missing for champion changes, oldest first, each once.

    person  : who ran `command`; their changes carry their name, all others the engine's
    command : command line that made the change

    Raises StoreError; the remaining rows are then written by the next call.
    """
    model_store.audit_changes(partial(_append_row, ledger, model, person, command))


def _append_row(ledger: Ledger, model: str, person: str, command: str, change: ChampionChange) -> None:
    subject = f"{model}/{change.version}"
    if any(row.details.get("move") == change.id for row in ledger.audit_rows(subject=subject)):
        return  # the row was written, but the process ended before the store recorded that
    actor, by = (person, command) if person and change.by == person else (ENGINE_ACTOR, change.by)
    ledger.append_audit(
        "model promoted", subject, actor, {"by": by, "before": change.before, "move": change.id}
    )
