"""Load forecasts as they are now: refreshed beside the ticks, held in memory, and who makes them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.forecasting.champion_audit import BY, audit_moves
from trimtab.engine.platform.child_process import ModelChild, ModelWorkError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.settings import LoadScheduler, ModelRegistry
from trimtab.engine.types import Forecast, ForecastBefore, ModelVersion, ModelView
from trimtab.models.forecasting.confidence import confidence
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.stored_forecasts import NOW, QUANTILES, Ahead, kept
from trimtab.pipelines.model_registry.artifact import MANIFEST
from trimtab.pipelines.model_registry.mlflow_registry import written
from trimtab.pipelines.model_registry.model_store import Book, Shelf
from trimtab.pipelines.serving.past_forecasts import FILE, LEAD_S, SHOWN, before

log = structlog.get_logger(__name__)

MODEL = "load"
_NS = 1_000_000_000


class Forecasting:
    """What is forecast, and the versions that could forecast it.

    told : told of the error of what serves, (model, version, error)
    """

    def __init__(
        self,
        data_dir: Path,
        scheduler: LoadScheduler,
        registry: ModelRegistry,
        child: ModelChild,
        ledger: Ledger,
        clock: Clock,
        told: Callable[[str, str, float | None], None],
    ) -> None:
        self.scheduler = scheduler
        self.registry = registry
        self.shelf = Shelf(data_dir / "models" / MODEL)
        self.drifted = asyncio.Event()
        """Set where what serves errs much more than it did at the gate."""
        self.unfit = ""
        """The champion, where it was made for another step or horizon than the settings ask; "" = it fits."""
        self._folder = data_dir / "forecasts" / MODEL
        self._registry_folder = data_dir / "mlflow"
        self._synced: tuple[object, ...] | None = None
        self._child = child
        self._ledger = ledger
        self._clock = clock
        self._told = told
        self._forecasts: dict[str, Forecast] = {}
        self._live: dict[str, float | None] = {}
        self._ahead: Ahead | None = None
        self._problems: dict[str, str] = {}
        self.error: float | None = None
        """Of what serves, as the last refresh saw it, in seasonal naive errors; None = not known."""
        self.error_known: Callable[[], Awaitable[None]] | None = None
        """Called whenever there is one, so that it is watched."""

    async def resume(self) -> None:
        """What was forecast before the engine stopped, and what the audit lacks since."""
        await self._load()
        try:
            await self.audited()
        except StoreError as error:
            self._trouble("store", str(error))

    async def audited(self) -> None:
        """Write into the audit who became champion in another process. Raises StoreError."""
        await asyncio.to_thread(audit_moves, self.shelf, self._ledger, MODEL)

    async def refresh(self) -> None:
        """Forecast anew; where that fails the forecasts before stay, and `models` says why."""
        try:
            done = await self._child("forecast")
        except ModelWorkError as error:
            self.error = None
            self._trouble("forecast", str(error))
            return
        self._trouble("forecast", "")
        self._trouble("settings", await self._outgrown(done.get("unfit", {}), done.get("version", "")))
        await self._load()
        await self.audited()
        await self._refused(done.get("refused", {}))
        seen = done.get("error")
        self.error = None if seen is None else seen["error"]
        if self.error is not None and self.error_known is not None:
            await self.error_known()
        if seen is not None:
            self._live = {seen["challenger_version"]: seen["challenger"], seen["version"]: seen["error"]}
            self._told(MODEL, seen["version"] or "seasonal_naive", seen["error"])
        if done.get("shadow"):
            await self._note("model shadow ended", MODEL, BY, {"said": done["shadow"]})
        if done.get("drifted"):
            log.warning("forecasts drift, the model is trained anew", version=done["version"])
            self.drifted.set()

    async def sync(self) -> None:
        """Tell the registry who is champion, or take its champion over; where it is away all stays.

        MLflow takes seconds of processor to load, so a registry in the data folder is left alone while
        neither its file nor the shelf is other than at the last time.
        """
        standing = await asyncio.to_thread(self._standing)
        refused: Mapping[str, str] = {}
        if standing is None or standing not in {self._synced, ()}:
            try:
                refused = (await self._child("sync"))["refused"]
            except ModelWorkError as error:
                self._trouble("sync", str(error))
                return
            self._trouble("sync", "")
            self._synced = standing
        await self.audited()
        await self._refused(refused)

    def _standing(self) -> tuple[object, ...] | None:
        """What a sync would find; () = no registry and nothing to tell it, None = it has to be asked."""
        book = self.shelf.book()
        if self.registry.tracking_uri or book.untold or book.refused:
            return None
        there = written(self._registry_folder)
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

    async def before(self, series_id: str) -> ForecastBefore:
        """What had been forecast of a series; empty where nothing is kept of it."""
        now = self._forecasts.get(series_id)
        told = None if now is None else await asyncio.to_thread(before, self._folder / FILE, now.series)
        if told is None:
            return ForecastBefore(series_id, LEAD_S, np.empty(0, np.int64), {})
        values = {f"{q:g}": told.values[i] for i, q in enumerate(SHOWN)}
        return ForecastBefore(series_id, told.lead_s, told.time, values)

    async def view(self) -> ModelView:
        """The model as people see it."""
        book = await asyncio.to_thread(self.shelf.book)
        versions = await asyncio.to_thread(self._versions, book)
        ahead = self._ahead
        made = None if ahead is None or not len(ahead.end) else int(ahead.end.max())
        serving = "" if ahead is None else ahead.version
        return ModelView(
            MODEL, serving, made, len(self._forecasts), self._live.get(serving), versions, book.refused,
            self.registry.tracking_uri or "SQLite in the data folder",
            "; ".join(self._problems.values()),
        )  # fmt: skip

    async def promote(self, version: str, by: str) -> ModelView:
        """Let a version serve. Raises NotFoundError, RefusedError."""
        book = await asyncio.to_thread(self.shelf.book)
        if version not in book.versions:
            raise NotFoundError(f"the model {MODEL} has no version {version!r} that could serve")
        await self._note("model promoted", f"{MODEL}/{version}", by, {"before": book.champion})
        await self._switch(version, by, lambda: self.shelf.promote(version, f"promoted by {by}", untold=True))
        return await self.view()

    async def rollback(self, by: str) -> ModelView:
        """Let the previous champion serve again. Raises ConflictError where there is none, RefusedError."""
        book = await asyncio.to_thread(self.shelf.book)
        if book.previous is None:
            raise ConflictError(f"the model {MODEL} has no previous champion to go back to")
        await self._note("model rolled back", f"{MODEL}/{book.previous}", by, {"before": book.champion})
        await self._switch(book.previous, by, self.shelf.rollback)
        return await self.view()

    async def _switch(self, version: str, by: str, change: Callable[[], Book]) -> None:
        """Do what the audit says already; where it is refused the audit says that, too."""
        try:
            await asyncio.to_thread(change)
        except ModelRefusedError as error:
            await self._note("model refused", f"{MODEL}/{version}", by, {"why": str(error)[:1000]})
            raise RefusedError(str(error)) from error

    async def _load(self) -> None:
        ahead = await asyncio.to_thread(kept, self._folder / NOW)
        infos = await asyncio.to_thread(_infos, self._folder / "series.json")
        if ahead is not None:
            self._ahead, self._forecasts = ahead, forecasts_of(ahead, infos)

    async def _outgrown(self, unfit: Mapping[str, str], serving: str) -> str:
        """What is said where the champion cannot be asked any more; "" = it can."""
        champion = (await asyncio.to_thread(self.shelf.book)).champion or ""
        self.unfit = champion if champion in unfit else ""
        if not self.unfit:
            return ""
        who = f"version {serving}" if serving else "seasonal naive"
        return (
            f"the champion, version {champion}, does not serve: {unfit[champion]} by schedulers.load; {who} "
            "forecasts until a version made for that passes the gate, and one is trained as soon as there is "
            "history (Train now, or `trimtab retrain`, tries again)"
        )

    async def _refused(self, refused: Mapping[str, str]) -> None:
        for version, why in refused.items():
            log.error("a model was refused, the one before serves", version=version, why=why)
            await self._note("model refused", f"{MODEL}/{version}", BY, {"why": why[:1000]})

    async def _note(self, what: str, subject: str, by: str, details: dict[str, Any]) -> None:
        """Raises StoreError: what is not in the audit is not done."""
        await asyncio.to_thread(self._ledger.note, what, subject, by, details)

    def _trouble(self, what: str, why: str) -> None:
        """Each work tells of its own trouble, and only its own success ends it; "" = there is none."""
        before = self._problems.pop(what, "")
        if why:
            self._problems[what] = why
            if why != before:
                log.warning("models: not done now, what there is goes on serving", why=why)

    def _versions(self, book: Book) -> tuple[ModelVersion, ...]:
        roles = {book.previous: "previous", book.challenger: "challenger", book.champion: "champion"}
        return tuple(
            _version(self.shelf.folder / version, version, roles.get(version, ""), book, self._live)
            for version in sorted(book.versions, key=lambda name: (len(name), name), reverse=True)
        )

    async def run(self, first_s: float) -> None:
        """Refresh, and look into the registry, until it is cancelled."""
        await self._sleep(first_s)
        synced = 0
        while True:
            begun = self._clock.now()
            try:
                book = await asyncio.to_thread(self.shelf.book)
                if book.untold or begun - synced >= self.registry.sync * _NS:
                    synced = begun
                    await self.sync()
                await self.refresh()
                self._trouble("store", "")
            except StoreError as error:
                self._trouble("store", str(error))
            await self._clock.sleep_until(begun + int(self.scheduler.refresh * _NS))

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + int(seconds * _NS))


def forecasts_of(ahead: Ahead, infos: Mapping[str, list[str]]) -> dict[str, Forecast]:
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
            ahead.version, confidence(float(ahead.past_s[k])).word, float(ahead.past_s[k]),
        )  # fmt: skip
    return dict(sorted(found.items()))


def _version(
    folder: Path, version: str, role: str, book: Book, live: Mapping[str, float | None]
) -> ModelVersion:
    slip = book.versions[version]
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
        size = sum(path.stat().st_size for path in folder.iterdir())
        figures = {name: value for name, value in told["figures"].items() if value is not None}
        until = told["trained"].get("until")
        kind, forecaster = str(told["kind"]), str(told["forecaster"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        size, figures, until, kind, forecaster = 0, {}, None, "", ""
    return ModelVersion(
        version, role, kind, forecaster, slip.stored, until, size, figures, live.get(version), slip.said
    )


def _infos(path: Path) -> dict[str, list[str]]:
    try:
        told: dict[str, list[str]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told
