"""Forecasts, models and the pipelines that train them, as the API sees them."""

from collections.abc import Sequence
from typing import Protocol

from trimtab.engine.types import Forecast, ModelView, PastForecast, PipelineRun


class ModelService(Protocol):
    """What is forecast, by which model, and what people may ask of it. Asked on the event loop."""

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """By id of the series; `after` is the last id of the page before.

        search : every word must stand in the series' name, case ignored
        """
        ...

    async def past_forecast(self, series_id: str) -> PastForecast:
        """What had been forecast of a series; empty where nothing is kept of it."""
        ...

    async def models(self) -> list[ModelView]:
        """Every model."""
        ...

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        """Let a version serve. Raises NotFoundError, RefusedError."""
        ...

    async def rollback(self, name: str, by: str) -> ModelView:
        """Let the previous champion serve again. Raises NotFoundError, ConflictError where there is none."""
        ...

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        """Newest first. Raises NotFoundError."""
        ...

    async def start_training(self, name: str, by: str) -> PipelineRun:
        """Train now. Raises NotFoundError, ConflictError where it runs already."""
        ...
