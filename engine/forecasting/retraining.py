"""When the load model is trained anew: by schedule, as forecasts drift, other settings or a person ask."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from ulid import ULID

from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.forecasting.forecast_service import MODEL, Forecasting
from trimtab.engine.platform.child_process import ModelChild, ModelWorkError
from trimtab.engine.ports import Clock
from trimtab.engine.settings import LoadScheduler
from trimtab.engine.types import Forecast, ForecastBefore, ModelView, PipelineRun, RunState, SeriesKey
from trimtab.pipelines.training.pipeline_runs import Run, Runs

log = structlog.get_logger(__name__)

LOOK_S, AFTER_DRIFT_S, AGAIN_S = 5.0, 6 * 3600.0, 3600.0
"""Between looks whether it is time; between trainings that drift or other settings ask for; after one that
failed."""
FIRST_S = 90.0
"""After the start, before the first forecasts, unless they are wanted more often: history is read first."""
_WAITS = {
    verb: f"waits for {what}: one thing at a time is done with models"
    for verb, what in {
        "forecast": "the forecasts that are being made",
        "sync": "a look into the model registry",
        "retrain": "the training before it",
    }.items()
}
_NS = 1_000_000_000


class Retraining:
    """The port Modelling: schedule and runs here, forecasts and versions by `forecasting`."""

    def __init__(
        self,
        data_dir: Path,
        scheduler: LoadScheduler,
        forecasting: Forecasting,
        child: ModelChild,
        clock: Clock,
    ) -> None:
        self.scheduler = scheduler
        self.forecasting = forecasting
        self._runs = Runs(data_dir / "training" / MODEL, MODEL, clock.now)
        self._child = child
        self._clock = clock
        self._begun = 0
        self._tried: int | None = None
        self._outgrown = ""
        """The champion that did not fit the settings when that was last a reason to train."""
        self._now: PipelineRun | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        self._begun = self._clock.now()
        await self.forecasting.resume()
        beside = asyncio.create_task(self.forecasting.run(min(FIRST_S, self.scheduler.refresh)))
        try:
            while not beside.done():
                why = await self._due()
                if why and not self._busy():
                    await self._train(str(ULID()) if why == "drift" else "", why)
                await self._clock.sleep_until(self._clock.now() + int(LOOK_S * _NS))
            beside.result()
        finally:
            mine = [task for task in (beside, self._task) if task is not None]
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)

    async def start(self, name: str, by: str) -> PipelineRun:
        """Train now. Raises NotFoundError, ConflictError where it runs already."""
        self._known(name)
        listed = await asyncio.to_thread(self._runs.listed)
        if self._busy() or any(run.state == RunState.RUNNING for run in listed[:1]):
            raise ConflictError(f"the pipeline {name} runs already; wait for it: one runs at a time")
        run = PipelineRun(str(ULID()), name, RunState.WAITING, by, self._clock.now())
        self._now = run
        self._task = asyncio.create_task(self._train(run.id, by))
        return self._waits(run)

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        """Newest first. Raises NotFoundError."""
        self._known(name)
        found = [_told(run) for run in await asyncio.to_thread(self._runs.listed)]
        now = self._now
        if now is not None and now.id not in {run.id for run in found}:
            found.insert(0, self._waits(now))
        return [run for run in found if after is None or run.id < after][:limit]

    async def models(self) -> list[ModelView]:
        """Every model."""
        return [await self.forecasting.view()]

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        """Let a version serve. Raises NotFoundError, RefusedError."""
        self._known(name)
        return await self.forecasting.promote(version, by)

    async def rollback(self, name: str, by: str) -> ModelView:
        """Let the previous champion serve again. Raises NotFoundError, ConflictError."""
        self._known(name)
        return await self.forecasting.rollback(by)

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """By id of the series."""
        return self.forecasting.forecasts(series_id=series_id, search=search, after=after, limit=limit)

    async def forecast_before(self, series_id: str) -> ForecastBefore:
        """What had been forecast of a series."""
        return await self.forecasting.before(series_id)

    def figures(self) -> dict[SeriesKey, float | None]:
        """What is to be watched of the models themselves."""
        key = SeriesKey.of("trimtab", "trimtab_forecast_error", {"model": MODEL})
        return {key: self.forecasting.error}

    def _waits(self, run: PipelineRun) -> PipelineRun:
        """With what it waits for, where it does."""
        if run.state is not RunState.WAITING:
            return run
        return replace(run, said=_WAITS.get(self._child.doing, "its process starts"))

    def _known(self, name: str) -> None:
        if name != MODEL:
            raise NotFoundError(f"there is no pipeline {name!r}; there is {MODEL}")

    def _busy(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _due(self) -> str:
        """Why it is time to train; "" = it is not."""
        now, since = self._clock.now(), self._tried
        if self.forecasting.drifted.is_set():
            self.forecasting.drifted.clear()
            if since is None or now - since >= AFTER_DRIFT_S * _NS:
                return "drift"
        unfit = self.forecasting.unfit
        if unfit not in {"", self._outgrown} and (since is None or now - since >= AFTER_DRIFT_S * _NS):
            self._outgrown = unfit
            return "settings"
        if since is None:
            listed = await asyncio.to_thread(self._runs.listed)
            done = [run.started for run in listed if run.state == RunState.DONE]
            since = max(done, default=None)
        wait_s, begun = self.scheduler.every, since
        if begun is None:
            wait_s, begun = self.scheduler.first, self._begun
        return "schedule" if now - begun >= wait_s * _NS else ""

    async def _train(self, run_id: str, by: str) -> None:
        self._tried = self._clock.now()
        if self._now is not None and self._now.state is not RunState.WAITING:
            self._now = None  # it was the run before
        try:
            done = await self._child("retrain", {"id": run_id, "by": by}, self._heard)
        except ModelWorkError as error:
            log.warning("the load model was not trained", why=str(error))
            self._failed(run_id, by, str(error))
            self._tried += int((min(self.scheduler.every, AGAIN_S) - self.scheduler.every) * _NS)
            return
        self._now = None
        log.info("the load model was trained", **done)
        try:
            await self.forecasting.audited()
            await self.forecasting.refresh()
        except StoreError as error:
            log.error("what came of a training is not in the audit yet", error=str(error))

    def _heard(self, told: Mapping[str, Any]) -> None:
        self._now = _told(Run(**{**told, "request": {}}))

    def _failed(self, run_id: str, by: str, why: str) -> None:
        """A run that never came to write itself down is shown all the same."""
        now = self._clock.now()
        if self._now is None or self._now.state is RunState.WAITING:
            self._now = PipelineRun(run_id or str(ULID()), MODEL, RunState.FAILED, by, now, now, said=why)


def _told(run: Run) -> PipelineRun:
    return PipelineRun(
        run.id, run.pipeline, RunState(run.state), run.by, run.started, run.ended, run.stage, run.progress,
        run.said, run.version, run.promoted, run.figures,
    )  # fmt: skip
