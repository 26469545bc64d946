"""Schedules training of the load model: by time, drift, changed settings or an operator's request."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from ulid import ULID

from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.forecasting.forecast_service import MODEL_NAME, ForecastService
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.settings import LoadScheduler, Settings
from trimtab.engine.types import Forecast, ModelView, PastForecast, PipelineRun, RunState, SeriesKey
from trimtab.pipelines.training.pipeline_runs import PipelineRuns, RunRecord

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S, DRIFT_COOLDOWN_S, FAILURE_COOLDOWN_S = 5.0, 6 * 3600.0, 3600.0
"""Seconds between checks; between trainings caused by drift or settings; after a failed training."""
FIRST_FORECAST_S = 90.0
"""Seconds from the start to the first forecasts, unless the refresh interval is shorter."""
_WAIT_REASONS = {
    verb: f"waits for {what}; model work runs one at a time"
    for verb, what in {
        "forecast": "the running forecast",
        "sync": "the running sync with the model registry",
        "retrain": "the running training",
    }.items()
}
_NS = 1_000_000_000


class Retraining:
    """The port ModelService: schedule and runs here, forecasts and versions in `forecast_service`.

    data_dir         : data folder
    scheduler        : settings of the load scheduler
    forecast_service : forecasts and model versions
    process          : child process that trains
    clock            : clock of the engine
    """

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
        """Incompatible champion that already caused a training."""
        self._current_run: PipelineRun | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Check whether training is due every 5 s, and run the forecast service, until cancelled."""
        self._started_at = self._clock.now()
        await self.forecast_service.resume()
        service_task = asyncio.create_task(
            self.forecast_service.run(min(FIRST_FORECAST_S, self.scheduler.refresh))
        )
        try:
            while not service_task.done():
                reason = await self._due_reason()
                if reason and not self._is_training():
                    await self._train(str(ULID()) if reason == "drift" else "", reason)
                await self._clock.sleep_until(self._clock.now() + int(CHECK_INTERVAL_S * _NS))
            service_task.result()
        finally:
            tasks = [task for task in (service_task, self._task) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def start_training(self, name: str, by: str) -> PipelineRun:
        """Train now. Raises NotFoundError; ConflictError if a training runs already."""
        self._check_name(name)
        listed = await asyncio.to_thread(self._runs.list_runs)
        if self._is_training() or any(run.state == RunState.RUNNING for run in listed[:1]):
            raise ConflictError(f"the pipeline {name} is already running; wait until it ends")
        run = PipelineRun(str(ULID()), name, RunState.WAITING, by, self._clock.now())
        self._current_run = run
        self._task = asyncio.create_task(self._train(run.id, by))
        return self._with_wait_reason(run)

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        """Return the runs, newest first. Raises NotFoundError."""
        self._check_name(name)
        runs = [_pipeline_run(run) for run in await asyncio.to_thread(self._runs.list_runs)]
        now = self._current_run
        if now is not None and now.id not in {run.id for run in runs}:
            runs.insert(0, self._with_wait_reason(now))
        return [run for run in runs if after is None or run.id < after][:limit]

    async def models(self) -> list[ModelView]:
        """Return all models."""
        return [await self.forecast_service.model_view()]

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        """Make a version the champion. Raises NotFoundError, RefusedError."""
        self._check_name(name)
        return await self.forecast_service.promote(version, by)

    async def rollback(self, name: str, by: str) -> ModelView:
        """Restore the previous champion. Raises NotFoundError, ConflictError."""
        self._check_name(name)
        return await self.forecast_service.rollback(by)

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """See `ForecastService.forecasts`."""
        return self.forecast_service.forecasts(series_id=series_id, search=search, after=after, limit=limit)

    async def past_forecast(self, series_id: str) -> PastForecast:
        """See `ForecastService.past_forecast`."""
        return await self.forecast_service.past_forecast(series_id)

    def metrics(self) -> dict[SeriesKey, float | None]:
        """Return the models' own metrics, to be watched as series."""
        key = SeriesKey.of("trimtab", "trimtab_forecast_error", {"model": MODEL_NAME})
        return {key: self.forecast_service.error}

    def _with_wait_reason(self, run: PipelineRun) -> PipelineRun:
        """Return the run with the reason it waits for, if it waits."""
        if run.state is not RunState.WAITING:
            return run
        return replace(run, said=_WAIT_REASONS.get(self._process.current_verb, "starting the process"))

    def _check_name(self, name: str) -> None:
        if name != MODEL_NAME:
            raise NotFoundError(f"there is no pipeline {name!r}; use {MODEL_NAME}")

    def _is_training(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _due_reason(self) -> str:
        """Return why training is due: drift, settings or schedule; "" = it is not due."""
        now, last = self._clock.now(), self._last_attempt
        if self.forecast_service.drift_event.is_set():
            self.forecast_service.drift_event.clear()
            if last is None or now - last >= DRIFT_COOLDOWN_S * _NS:
                return "drift"
        champion = self.forecast_service.incompatible_champion
        if champion not in {"", self._handled_champion} and (
            last is None or now - last >= DRIFT_COOLDOWN_S * _NS
        ):
            self._handled_champion = champion
            return "settings"
        if last is None:
            listed = await asyncio.to_thread(self._runs.list_runs)
            starts = [run.started for run in listed if run.state == RunState.DONE]
            last = max(starts, default=None)
        wait_s, counted_from = self.scheduler.every, last
        if counted_from is None:
            wait_s, counted_from = self.scheduler.first, self._started_at
        return "schedule" if now - counted_from >= wait_s * _NS else ""

    async def _train(self, run_id: str, by: str) -> None:
        self._last_attempt = self._clock.now()
        if self._current_run is not None and self._current_run.state is not RunState.WAITING:
            self._current_run = None  # the previous run
        try:
            result = await self._process("retrain", {"id": run_id, "by": by}, self._on_progress)
        except ModelProcessError as error:
            log.warning("training_failed", error=str(error))
            self._record_failure(run_id, by, str(error))
            self._last_attempt += int(
                (min(self.scheduler.every, FAILURE_COOLDOWN_S) - self.scheduler.every) * _NS
            )
            return
        self._current_run = None
        log.info("training_finished", **result)
        try:
            await self.forecast_service.audit_champion_changes()
            await self.forecast_service.refresh()
        except StoreError as error:
            log.error("training_not_audited", error=str(error))

    def _on_progress(self, fields: Mapping[str, Any]) -> None:
        self._current_run = _pipeline_run(RunRecord(**{**fields, "request": {}}))

    def _record_failure(self, run_id: str, by: str, reason: str) -> None:
        """Show a failed run whose process ended before it wrote a record."""
        now = self._clock.now()
        if self._current_run is None or self._current_run.state is RunState.WAITING:
            self._current_run = PipelineRun(
                run_id or str(ULID()), MODEL_NAME, RunState.FAILED, by, now, now, said=reason
            )


def _pipeline_run(run: RunRecord) -> PipelineRun:
    return PipelineRun(
        run.id, run.pipeline, RunState(run.state), run.by, run.started, run.ended, run.stage, run.progress,
        run.said, run.version, run.promoted, run.figures,
    )  # fmt: skip


def build_retraining(
    settings: Settings,
    config: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    found_url: Callable[[], str | None],
    ledger: Ledger,
    clock: Clock,
    metrics: Metrics,
) -> Retraining | None:
    """Build retraining with its forecast service; None if `schedulers.load` is disabled.

    config    : settings file; None = no file
    overrides : dotted name -> value from the command line
    environ   : environment of the child process
    found_url : returns the URL of a Prometheus found on this machine; None = none
    """
    scheduler, data_dir = settings.schedulers.load, settings.settings.data_dir
    if not scheduler.enabled:
        return None
    all_overrides = {**overrides, "settings.data_dir": str(data_dir)}

    def make_request() -> dict[str, object]:
        return {"config": str(config) if config else None, "overrides": all_overrides, "found": found_url()}

    process = ModelProcess(make_request, environ)
    forecast_service = ForecastService(
        data_dir, scheduler, settings.registry, process, ledger, clock, metrics.set_forecast_error
    )
    return Retraining(data_dir, scheduler, forecast_service, process, clock)
