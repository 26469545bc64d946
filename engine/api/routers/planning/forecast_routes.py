"""What the load of series is expected to be."""

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
SeriesOnly = Annotated[str | None, Query(pattern=SERIES_ID, description="Only of the series of this id.")]


@router.get("", summary="List forecasts", responses=_PAGE)
async def list_forecasts(
    models: ModelsDep,
    series: SeriesOnly = None,
    search: SearchText = "",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of forecasts by id of their series: from `start` on, one row every `step_s`, by quantile.

    A series of which nothing can be said yet, as after less than half an hour, has none.
    """
    found = models.forecasts(series_id=series, search=search, after=after, limit=limit + 1)
    following = found[limit - 1].id if len(found) > limit else None
    return json_response({"items": [forecast_json(one) for one in found[:limit]], "next": following})


@router.get(
    "/{series_id}/before", summary="What had been forecast",
    responses=example_response(ForecastBeforeShape, past_forecast_json(PAST_FORECAST)),
)  # fmt: skip
async def forecast_before(models: ModelsDep, series_id: SeriesId) -> Response:
    """The last day of a series as it was forecast `lead_s` before, to be held against what came.

    Empty while nothing that old is kept of it.
    """
    return json_response(past_forecast_json(await models.past_forecast(series_id)))
