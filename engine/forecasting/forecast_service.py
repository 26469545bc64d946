"""Load forecasts as they are now: refreshed beside the ticks, held in memory, and who makes them."""

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
    """What is forecast, and the versions that could forecast it.

    told : told of the error of what serves, (model, version, error)
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
        """Set where what serves errs much more than it did at the gate."""
        self.incompatible_champion = ""
        """The champion, where it was made for another step or horizon than the settings ask; "" = it fits."""
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
        """Of what serves, as the last refresh saw it, in seasonal naive errors; None = not known."""
        self.on_error_known: Callable[[], Awaitable[None]] | None = None
        """Called whenever there is one, so that it is watched."""

    async def resume(self) -> None:
        """What was forecast before the engine stopped, and what the audit lacks since."""
        await self._load_forecasts()
        try:
            await self.audit_champion_changes()
        except StoreError as error:
            self._set_problem("store", str(error))

    async def audit_champion_changes(self) -> None:
        """Write into the audit who became champion in another process. Raises StoreError."""
        await asyncio.to_thread(audit_champion_changes, self.model_store, self._ledger, MODEL_NAME)

    async def refresh(self) -> None:
        """Forecast anew; where that fails the forecasts before stay, and `models` says why."""
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
            log.warning("forecasts drift, the model is trained anew", version=done["version"])
            self.drift_event.set()

    async def sync(self) -> None:
        """Tell the registry who is champion, or take its champion over; where it is away all stays.

        MLflow takes seconds of processor to load, so a registry in the data folder is left alone while
        neither its file nor the shelf is other than at the last time.
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
        """What a sync would find; () = no registry and nothing to tell it, None = it has to be asked."""
        book = self.model_store.index()
        if self.registry.tracking_uri or book.untold or book.refused:
            return None
        there = registry_file_stamps(self._registry_folder)
        return (there, book.champion, book.challenger) if there else ()

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """By id of the series; `after` is the last id of the page before."""
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
        """What had been forecast of a series; empty where nothing is kept of it."""
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
        """The model as people see it."""
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
        """Let a version serve. Raises NotFoundError, RefusedError."""
        book = await asyncio.to_thread(self.model_store.index)
        if version not in book.versions:
            raise NotFoundError(f"the model {MODEL_NAME} has no version {version!r} that could serve")
        await self._append_audit("model promoted", f"{MODEL_NAME}/{version}", by, {"before": book.champion})
        await self._change_champion(
            version, by, lambda: self.model_store.promote(version, f"promoted by {by}", registry_pending=True)
        )
        return await self.model_view()

    async def rollback(self, by: str) -> ModelView:
        """Let the previous champion serve again. Raises ConflictError where there is none, RefusedError."""
        book = await asyncio.to_thread(self.model_store.index)
        if book.previous is None:
            raise ConflictError(f"the model {MODEL_NAME} has no previous champion to go back to")
        await self._append_audit(
            "model rolled back", f"{MODEL_NAME}/{book.previous}", by, {"before": book.champion}
        )
        await self._change_champion(book.previous, by, self.model_store.rollback)
        return await self.model_view()

    async def _change_champion(self, version: str, by: str, change: Callable[[], ModelIndex]) -> None:
        """Do what the audit says already; where it is refused the audit says that, too."""
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
        """What is said where the champion cannot be asked any more; "" = it can."""
        champion = (await asyncio.to_thread(self.model_store.index)).champion or ""
        self.incompatible_champion = champion if champion in unfit else ""
        if not self.incompatible_champion:
            return ""
        who = f"version {serving}" if serving else "seasonal naive"
        return (
            f"the champion, version {champion}, does not serve: {unfit[champion]} by schedulers.load; {who} "
            "forecasts until a version made for that passes the gate, and one is trained as soon as there is "
            "history (Train now, or `trimtab retrain`, tries again)"
        )

    async def _report_refused(self, refused: Mapping[str, str]) -> None:
        for version, why in refused.items():
            log.error("a model was refused, the one before serves", version=version, why=why)
            await self._append_audit(
                "model refused", f"{MODEL_NAME}/{version}", ENGINE_ACTOR, {"why": why[:1000]}
            )

    async def _append_audit(self, what: str, subject: str, by: str, details: dict[str, Any]) -> None:
        """Raises StoreError: what is not in the audit is not done."""
        await asyncio.to_thread(self._ledger.append_audit, what, subject, by, details)

    def _set_problem(self, what: str, why: str) -> None:
        """Each work tells of its own trouble, and only its own success ends it; "" = there is none."""
        before = self._problems.pop(what, "")
        if why:
            self._problems[what] = why
            if why != before:
                log.warning("models: not done now, what there is goes on serving", why=why)

    def _version_views(self, book: ModelIndex) -> tuple[ModelVersion, ...]:
        roles = {book.previous: "previous", book.challenger: "challenger", book.champion: "champion"}
        return tuple(
            _version_view(
                self.model_store.folder / version, version, roles.get(version, ""), book, self._live_errors
            )
            for version in sorted(book.versions, key=lambda name: (len(name), name), reverse=True)
        )

    async def run(self, first_s: float) -> None:
        """Refresh, and look into the registry, until it is cancelled."""
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
    """Forecasts by id of the series, sorted; without those of which nothing can be said.

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
