"""Forecasts, models and the pipelines that train them, as the API sees them."""

from collections.abc import Sequence
from typing import Protocol

from trimtab.engine.types import Forecast, ModelView, PastForecast, PipelineRun


class ModelService(Protocol):
    """Forecasts, models and training runs. Called on the event loop.

    `by` is the name of the API key that asks.
    """

    def forecasts(
        self, *, series_id: str | None = None, search: str = "", after: str | None = None, limit: int = 100
    ) -> list[Forecast]:
        """Return the current forecasts, ordered by series id.

        after  : last id of the previous page
        search : words that the series' name must all contain, ignoring case
        """
        ...

    async def past_forecast(self, series_id: str) -> PastForecast:
        """Return the past forecasts of a series; empty if none are stored."""
        ...

    async def models(self) -> list[ModelView]:
        """Return all models."""
        ...

    async def promote(self, name: str, version: str, by: str) -> ModelView:
        """Make a version the champion. Raises NotFoundError, RefusedError."""
        ...

    async def rollback(self, name: str, by: str) -> ModelView:
        """Restore the previous champion. Raises NotFoundError, or ConflictError if there is none."""
        ...

    async def runs(self, name: str, *, after: str | None = None, limit: int = 100) -> Sequence[PipelineRun]:
        """Return the runs of a pipeline, newest first. Raises NotFoundError."""
        ...

    async def start_training(self, name: str, by: str) -> PipelineRun:
        """Start a training run. Raises NotFoundError, or ConflictError if one is running."""
        ...
