"""When the load model is trained anew: by schedule, as forecasts drift, other settings or a person ask."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from ulid import ULID

from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.forecasting.forecast_service import MODEL_NAME, ForecastService
from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError
from trimtab.engine.ports import Clock
from trimtab.engine.settings import LoadScheduler
from trimtab.engine.types import Forecast, ModelView, PastForecast, PipelineRun, RunState, SeriesKey
from trimtab.pipelines.training.pipeline_runs import PipelineRuns, RunRecord

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S, DRIFT_COOLDOWN_S, FAILURE_COOLDOWN_S = 5.0, 6 * 3600.0, 3600.0
"""Between looks whether it is time; between trainings that drift or other settings ask for; after one that
failed."""
FIRST_FORECAST_S = 90.0
"""After the start, before the first forecasts, unless they are wanted more often: history is read first."""
_WAIT_REASONS = {
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
        forecast_service: ForecastService,
        process: ModelProcess,
        clock: Clock,
    ) -> None:
        self.scheduler = scheduler
        self.forecast_service = forecast_service
        self._runs = PipelineRuns(data_dir / "training" / MODEL_NAME, MODEL_NAME, clock.now)
        self._process = process
        self._clock = clock
        self._started_at = 0
        self._last_attempt: int | None = None
        self._handled_champion = ""
        """The champion that did not fit the settings when that was last a reason to train."""
        self._current_run: PipelineRun | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        self._started_at = self._clock.now()
        await self.forecast_service.resume()
        beside = asyncio.create_task(self.forecast_service.run(min(FIRST_FORECAST_S, self.scheduler.refresh)))
        try:
            while not beside.done():
                why = await self._due_reason()
                if why and not self._is_training():
                    await self._train(str(ULID()) if why == "drift" else "", why)
                await self._clock.sleep_until(self._clock.now() + int(CHECK_INTERVAL_S * _NS))
            beside.result()
        finally:
            mine = [task for task in (beside, self._task) if task is not None]
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)

    async def start_training(self, name: str, by: str) -> PipelineRun:
        """Train now. Raises NotFoundError, ConflictError where it runs already."""
        self._check_name(name)
        listed = await asyncio.to_thread(self._runs.list_runs)
        if self._is_training() or any(run.state == RunState.RUNNING for run in listed[:1]):
            raise ConflictError(f"the pipeline {name} runs already; wait for it: one runs at a time")
        run = PipelineRun(str(ULID()), name, RunState.WAITING, by, self._clock.now())
        self._current_run = run
        self._task = asyncio.create_task(self._train(run.id, by))
        return self._with_wait_reason(run)

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        """Newest first. Raises NotFoundError."""
        self._check_name(name)
        found = [_pipeline_run(run) for run in await asyncio.to_thread(self._runs.list_runs)]
        now = self._current_run
        if now is not None and now.id not in {run.id for run in found}:
            found.insert(0, self._with_wait_reason(now))
        return [run for run in found if after is None or run.id < after][:limit]

    async def models(self) -> list[ModelView]:
        """Every model."""
        return [await self.forecast_service.model_view()]

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        """Let a version serve. Raises NotFoundError, RefusedError."""
        self._check_name(name)
        return await self.forecast_service.promote(version, by)

    async def rollback(self, name: str, by: str) -> ModelView:
        """Let the previous champion serve again. Raises NotFoundError, ConflictError."""
        self._check_name(name)
        return await self.forecast_service.rollback(by)

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """By id of the series."""
        return self.forecast_service.forecasts(series_id=series_id, search=search, after=after, limit=limit)

    async def past_forecast(self, series_id: str) -> PastForecast:
        """What had been forecast of a series."""
        return await self.forecast_service.past_forecast(series_id)

    def metrics(self) -> dict[SeriesKey, float | None]:
        """What is to be watched of the models themselves."""
        key = SeriesKey.of("trimtab", "trimtab_forecast_error", {"model": MODEL_NAME})
        return {key: self.forecast_service.error}

    def _with_wait_reason(self, run: PipelineRun) -> PipelineRun:
        """With what it waits for, where it does."""
        if run.state is not RunState.WAITING:
            return run
        return replace(run, said=_WAIT_REASONS.get(self._process.current_verb, "its process starts"))

    def _check_name(self, name: str) -> None:
        if name != MODEL_NAME:
            raise NotFoundError(f"there is no pipeline {name!r}; there is {MODEL_NAME}")

    def _is_training(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _due_reason(self) -> str:
        """Why it is time to train; "" = it is not."""
        now, since = self._clock.now(), self._last_attempt
        if self.forecast_service.drift_event.is_set():
            self.forecast_service.drift_event.clear()
            if since is None or now - since >= DRIFT_COOLDOWN_S * _NS:
                return "drift"
        unfit = self.forecast_service.incompatible_champion
        if unfit not in {"", self._handled_champion} and (
            since is None or now - since >= DRIFT_COOLDOWN_S * _NS
        ):
            self._handled_champion = unfit
            return "settings"
        if since is None:
            listed = await asyncio.to_thread(self._runs.list_runs)
            done = [run.started for run in listed if run.state == RunState.DONE]
            since = max(done, default=None)
        wait_s, begun = self.scheduler.every, since
        if begun is None:
            wait_s, begun = self.scheduler.first, self._started_at
        return "schedule" if now - begun >= wait_s * _NS else ""

    async def _train(self, run_id: str, by: str) -> None:
        self._last_attempt = self._clock.now()
        if self._current_run is not None and self._current_run.state is not RunState.WAITING:
            self._current_run = None  # it was the run before
        try:
            done = await self._process("retrain", {"id": run_id, "by": by}, self._on_progress)
        except ModelProcessError as error:
            log.warning("the load model was not trained", why=str(error))
            self._record_failure(run_id, by, str(error))
            self._last_attempt += int(
                (min(self.scheduler.every, FAILURE_COOLDOWN_S) - self.scheduler.every) * _NS
            )
            return
        self._current_run = None
        log.info("the load model was trained", **done)
        try:
            await self.forecast_service.audit_champion_changes()
            await self.forecast_service.refresh()
        except StoreError as error:
            log.error("what came of a training is not in the audit yet", error=str(error))

    def _on_progress(self, told: Mapping[str, Any]) -> None:
        self._current_run = _pipeline_run(RunRecord(**{**told, "request": {}}))

    def _record_failure(self, run_id: str, by: str, why: str) -> None:
        """A run that never came to write itself down is shown all the same."""
        now = self._clock.now()
        if self._current_run is None or self._current_run.state is RunState.WAITING:
            self._current_run = PipelineRun(
                run_id or str(ULID()), MODEL_NAME, RunState.FAILED, by, now, now, said=why
            )


def _pipeline_run(run: RunRecord) -> PipelineRun:
    return PipelineRun(
        run.id, run.pipeline, RunState(run.state), run.by, run.started, run.ended, run.stage, run.progress,
        run.said, run.version, run.promoted, run.figures,
    )  # fmt: skip
