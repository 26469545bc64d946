"""In-memory fake of the model service."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trimtab.engine.api.shapes.examples import FORECAST, MODEL, PAST_FORECAST, PIPELINE_RUN
from trimtab.engine.errors import ConflictError, NotFoundError
from trimtab.engine.types import Forecast, ModelView, PastForecast, PipelineRun, RunState


class FakeModelService:
    """A model service with the model `load`; records its calls."""

    def __init__(self) -> None:
        self.current_forecasts: list[Forecast] = [
            replace(FORECAST, values={q: rows.copy() for q, rows in FORECAST.values.items()})
        ]
        self.past_forecasts: dict[str, PastForecast] = {FORECAST.id: PAST_FORECAST}
        self.view: ModelView = MODEL
        self.finished_runs: list[PipelineRun] = [PIPELINE_RUN]
        self.calls: list[tuple[str, ...]] = []
        self.has_previous = True

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        return [
            item
            for item in self.current_forecasts
            if (series_id is None or item.id == series_id)
            and (after is None or item.id > after)
            and all(word in item.series.lower() for word in search.lower().split())
        ][:limit]

    async def past_forecast(self, series_id: str) -> PastForecast:
        return self.past_forecasts.get(series_id, PastForecast(series_id, 3600.0, np.empty(0, np.int64), {}))

    async def models(self) -> list[ModelView]:
        return [self.view]

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        self._raise_if_unknown(name)
        if version not in {item.version for item in self.view.versions}:
            raise NotFoundError(f"the model {name} has no version {version!r} that could serve")
        self.calls.append(("promote", version, by))
        return self.view

    async def rollback(self, name: str, by: str) -> ModelView:
        self._raise_if_unknown(name)
        if not self.has_previous:
            raise ConflictError(f"the model {name} has no previous champion to go back to")
        self.calls.append(("rollback", by))
        return self.view

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        self._raise_if_unknown(name)
        return [run for run in self.finished_runs if after is None or run.id < after][:limit]

    async def start_training(self, name: str, by: str) -> PipelineRun:
        self._raise_if_unknown(name)
        run = replace(PIPELINE_RUN, state=RunState.WAITING, by=by, ended=None)
        self.calls.append(("start", by))
        return run

    def _raise_if_unknown(self, name: str) -> None:
        if name != "load":
            raise NotFoundError(f"there is no model {name!r}; there is load")
