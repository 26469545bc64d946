"""Serves load forecasts from memory, refreshes them in the background and manages model versions."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.forecasting.champion_audit import ENGINE_ACTOR, audit_champion_changes
from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.settings import LoadScheduler, ModelRegistry
from trimtab.engine.types import Forecast, ModelVersion, ModelView, PastForecast
from trimtab.models.forecasting.confidence import confidence
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.stored_forecasts import FORECASTS_FILE, QUANTILES, StoredForecasts, read_forecasts
from trimtab.pipelines.model_registry.artifact import MANIFEST_FILE
from trimtab.pipelines.model_registry.mlflow_registry import registry_file_stamps
from trimtab.pipelines.model_registry.model_store import ModelIndex, ModelStore
from trimtab.pipelines.serving.past_forecasts import (
    LEAD_S,
    PAST_FORECASTS_FILE,
    SHOWN_QUANTILES,
    read_past_forecasts,
)

log = structlog.get_logger(__name__)

MODEL_NAME = "load"
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
            done = await self._process("forecast")
        except ModelProcessError as error:
            self.error = None
            self._set_problem("forecast", str(error))
            return
        self._set_problem("forecast", "")
        self._set_problem(
            "settings", await self._check_compatibility(done.get("unfit", {}), done.get("version", ""))
        )
        await self._load_forecasts()
        await self.audit_champion_changes()
        await self._report_refused(done.get("refused", {}))
        seen = done.get("error")
        self.error = None if seen is None else seen["error"]
        if self.error is not None and self.on_error_known is not None:
            await self.on_error_known()
        if seen is not None:
            self._live_errors = {
                seen["challenger_version"]: seen["challenger"],
                seen["version"]: seen["error"],
            }
            self._on_error(MODEL_NAME, seen["version"] or "seasonal_naive", seen["error"])
        if done.get("shadow"):
            await self._append_audit("model shadow ended", MODEL_NAME, ENGINE_ACTOR, {"said": done["shadow"]})
        if done.get("drifted"):
            log.warning("forecast_drift_detected", version=done["version"])
            self.drift_event.set()

    async def sync(self) -> None:
        """Exchange champions with the model registry; without an answer nothing changes.

        MLflow takes seconds of CPU to load, so a registry in the data folder is skipped while neither its
        files nor the model store changed since the last sync.
        """
        standing = await asyncio.to_thread(self._registry_stamp)
        refused: Mapping[str, str] = {}
        if standing is None or standing not in {self._synced_stamp, ()}:
            try:
                refused = (await self._process("sync"))["refused"]
            except ModelProcessError as error:
                self._set_problem("sync", str(error))
                return
            self._set_problem("sync", "")
            self._synced_stamp = standing
        await self.audit_champion_changes()
        await self._report_refused(refused)

    def _registry_stamp(self) -> tuple[object, ...] | None:
        """Return the state a sync would see; () = nothing to sync, None = the registry must be queried."""
        book = self.model_store.index()
        if self.registry.tracking_uri or book.untold or book.refused:
            return None
        there = registry_file_stamps(self._registry_folder)
        return (there, book.champion, book.challenger) if there else ()

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """Return forecasts by id of the series; `after` is the last id of the previous page."""
        words = search.lower().split()
        found = (
            one
            for key, one in self._forecasts.items()
            if (series_id is None or key == series_id)
            and (after is None or key > after)
            and all(word in one.series.lower() for word in words)
        )
        return [one for one, _ in zip(found, range(limit), strict=False)]

    async def past_forecast(self, series_id: str) -> PastForecast:
        """Return the past forecasts of a series; empty if none are kept."""
        now = self._forecasts.get(series_id)
        told = (
            None
            if now is None
            else await asyncio.to_thread(read_past_forecasts, self._folder / PAST_FORECASTS_FILE, now.series)
        )
        if told is None:
            return PastForecast(series_id, LEAD_S, np.empty(0, np.int64), {})
        values = {f"{q:g}": told.values[i] for i, q in enumerate(SHOWN_QUANTILES)}
        return PastForecast(series_id, told.lead_s, told.time, values)

    async def model_view(self) -> ModelView:
        """Return the model with its versions as the API shows it."""
        book = await asyncio.to_thread(self.model_store.index)
        versions = await asyncio.to_thread(self._version_views, book)
        ahead = self._stored_forecasts
        made = None if ahead is None or not len(ahead.end) else int(ahead.end.max())
        serving = "" if ahead is None else ahead.version
        return ModelView(
            MODEL_NAME, serving, made, len(self._forecasts), self._live_errors.get(serving), versions, book.refused,
            self.registry.tracking_uri or "SQLite in the data folder",
            "; ".join(self._problems.values()),
        )  # fmt: skip

    async def promote(self, version: str, by: str) -> ModelView:
        """Make a version the champion. Raises NotFoundError, RefusedError."""
        book = await asyncio.to_thread(self.model_store.index)
        if version not in book.versions:
            raise NotFoundError(f"model {MODEL_NAME} has no version {version!r} to promote")
        await self._append_audit("model promoted", f"{MODEL_NAME}/{version}", by, {"before": book.champion})
        await self._change_champion(
            version, by, lambda: self.model_store.promote(version, f"promoted by {by}", registry_pending=True)
        )
        return await self.model_view()

    async def rollback(self, by: str) -> ModelView:
        """Restore the previous champion. Raises ConflictError if there is none, RefusedError."""
        book = await asyncio.to_thread(self.model_store.index)
        if book.previous is None:
            raise ConflictError(f"model {MODEL_NAME} has no previous champion to roll back to")
        await self._append_audit(
            "model rolled back", f"{MODEL_NAME}/{book.previous}", by, {"before": book.champion}
        )
        await self._change_champion(book.previous, by, self.model_store.rollback)
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
        ahead = await asyncio.to_thread(read_forecasts, self._folder / FORECASTS_FILE)
        infos = await asyncio.to_thread(_read_series_infos, self._folder / "series.json")
        if ahead is not None:
            self._stored_forecasts, self._forecasts = ahead, forecasts_by_series_id(ahead, infos)

    async def _check_compatibility(self, unfit: Mapping[str, str], serving: str) -> str:
        """Return the problem of a champion that does not fit the settings; "" = it fits."""
        champion = (await asyncio.to_thread(self.model_store.index)).champion or ""
        self.incompatible_champion = champion if champion in unfit else ""
        if not self.incompatible_champion:
            return ""
        who = f"version {serving}" if serving else "seasonal naive"
        return (
            f"the champion, version {champion}, does not fit schedulers.load: {unfit[champion]}; {who} "
            "forecasts until a new version passes the gate. Training starts as soon as there is enough "
            "history; to try now, choose Train now or run `trimtab retrain`"
        )

    async def _report_refused(self, refused: Mapping[str, str]) -> None:
        for version, why in refused.items():
            log.error("model_refused", version=version, why=why)
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
                log.warning("model_work_failed", why=why)

    def _version_views(self, book: ModelIndex) -> tuple[ModelVersion, ...]:
        roles = {book.previous: "previous", book.challenger: "challenger", book.champion: "champion"}
        return tuple(
            _version_view(
                self.model_store.folder / version, version, roles.get(version, ""), book, self._live_errors
            )
            for version in sorted(book.versions, key=lambda name: (len(name), name), reverse=True)
        )

    async def run(self, first_s: float) -> None:
        """Refresh forecasts and sync the registry until cancelled; starts after `first_s` seconds."""
        await self._sleep(first_s)
        synced = 0
        while True:
            begun = self._clock.now()
            try:
                book = await asyncio.to_thread(self.model_store.index)
                if book.untold or begun - synced >= self.registry.sync * _NS:
                    synced = begun
                    await self.sync()
                await self.refresh()
                self._set_problem("store", "")
            except StoreError as error:
                self._set_problem("store", str(error))
            await self._clock.sleep_until(begun + int(self.scheduler.refresh * _NS))

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + int(seconds * _NS))


def forecasts_by_series_id(ahead: StoredForecasts, infos: Mapping[str, list[str]]) -> dict[str, Forecast]:
    """Return forecasts by id of the series, sorted; series without a finite forecast are left out.

    infos : name of a series -> id, source, unit
    """
    step = round(ahead.step_s * _NS)
    told = np.isfinite(ahead.values).all(axis=(0, 1))
    found = {}
    for k in np.flatnonzero(told).tolist():
        name, made = ahead.names[k], int(ahead.end[k])
        if name not in infos:
            continue
        series_id, source, unit = infos[name]
        values = {f"{q:g}": ahead.values[i, :, k].astype(np.float64) for i, q in enumerate(QUANTILES)}
        found[series_id] = Forecast(
            series_id, name, source, unit, made, made + step, ahead.step_s, values, ahead.model,
            ahead.version, confidence(float(ahead.history_s[k])).word, float(ahead.history_s[k]),
        )  # fmt: skip
    return dict(sorted(found.items()))


def _version_view(
    folder: Path, version: str, role: str, book: ModelIndex, live: Mapping[str, float | None]
) -> ModelVersion:
    slip = book.versions[version]
    try:
        told = json.loads((folder / MANIFEST_FILE).read_bytes())
        size = sum(path.stat().st_size for path in folder.iterdir())
        figures = {name: value for name, value in told["figures"].items() if value is not None}
        until = told["trained"].get("until")
        kind, forecaster = str(told["kind"]), str(told["forecaster"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        size, figures, until, kind, forecaster = 0, {}, None, "", ""
    return ModelVersion(
        version, role, kind, forecaster, slip.stored, until, size, figures, live.get(version), slip.said
    )


def _read_series_infos(path: Path) -> dict[str, list[str]]:
    try:
        told: dict[str, list[str]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told
