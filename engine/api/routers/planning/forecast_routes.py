"""Routes of load forecasts."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from trimtab.engine.api.loop_ports import ModelsDep
from trimtab.engine.api.parameters import SERIES_ID, After, Limit, SearchText, SeriesId
from trimtab.engine.api.shapes.examples import FORECAST, PAST_FORECAST
from trimtab.engine.api.shapes.json_shapes import json_response
from trimtab.engine.api.shapes.loop_shapes import (
    ForecastBeforeShape,
    ForecastShape,
    example_response,
    forecast_json,
    make_page_shape,
    past_forecast_json,
)

router = APIRouter(prefix="/api/forecasts", tags=["forecasts"])
_PAGE = example_response(
    make_page_shape(ForecastShape, "ForecastPage"), {"items": [forecast_json(FORECAST)], "next": None}
)
SeriesOnly = Annotated[str | None, Query(pattern=SERIES_ID, description="Only the series with this id.")]


@router.get("", summary="List forecasts", responses=_PAGE)
async def list_forecasts(
    models: ModelsDep,
    series: SeriesOnly = None,
    search: SearchText = "",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of forecasts by series id: quantiles from `start`, one row every `step_s` seconds.

    A series with less than about half an hour of history has no forecast.
    """
    found = models.forecasts(series_id=series, search=search, after=after, limit=limit + 1)
    next_cursor = found[limit - 1].id if len(found) > limit else None
    return json_response({"items": [forecast_json(item) for item in found[:limit]], "next": next_cursor})


@router.get(
    "/{series_id}/before", summary="Past forecasts",
    responses=example_response(ForecastBeforeShape, past_forecast_json(PAST_FORECAST)),
)  # fmt: skip
async def forecast_before(models: ModelsDep, series_id: SeriesId) -> Response:
    """Forecasts of the last day, each made `lead_s` seconds before its time, to compare with actual values.

    Empty until forecasts are old enough.
    """
    return json_response(past_forecast_json(await models.past_forecast(series_id)))
