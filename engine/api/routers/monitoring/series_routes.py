"""Routes of series: current values and scores over time."""

import asyncio
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query
from starlette.responses import Response

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.downsampling import read_downsampled
from trimtab.engine.api.parameters import (
    After,
    Limit,
    SearchText,
    SeriesId,
    Since,
    Until,
    parse_time,
)
from trimtab.engine.api.shapes.json_shapes import (
    Scores,
    Series,
    SeriesPage,
    json_response,
    series_json,
    to_json,
)
from trimtab.engine.errors import InputError
from trimtab.engine.types import ScoreRows, SeriesView

HOUR_NS = 3_600_000_000_000
router = APIRouter(prefix="/api/series", tags=["series"])


@router.get("", summary="List series", responses={200: {"model": SeriesPage}})
async def list_series(
    context: ContextDep,
    search: SearchText = "",
    source: Annotated[str, Query(max_length=200, description="Only of this source.")] = "",
    sort: Annotated[Literal["score", "name"], Query(description="`score`: most unusual first.")] = "score",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of series with value, expected band and score of their newest tick."""
    page, total, next_cursor = context.live.series_page(
        search=search, source=source, after=after, limit=limit, sort=sort
    )
    return json_response({"items": [series_json(view) for view in page], "total": total, "next": next_cursor})


@router.get("/{series_id}", summary="One series", responses={200: {"model": Series}})
async def one_series(context: ContextDep, series_id: SeriesId) -> Response:
    """A series with value, expected band and score of its newest tick."""
    return json_response(series_json(context.live.series_by_id(series_id)))


@router.get("/{series_id}/scores", summary="Scores over time", responses={200: {"model": Scores}})
async def scores(
    context: ContextDep,
    series_id: SeriesId,
    since: Since = None,
    until: Until = None,
    points: Annotated[
        int, Query(ge=10, le=20_000, description="Maximum number of points; extremes are kept.")
    ] = 2000,
) -> Response:
    """Values, scores and expected bands of one series; `since` defaults to one hour before `until`."""
    newest = context.clock.now() if until is None else parse_time("until", until)
    end = newest + 1 if until is None else newest
    begin = newest - HOUR_NS if since is None else parse_time("since", since)
    if begin >= end:
        raise InputError(f"since ({since}) must be before until ({until or 'now'})")
    view = context.live.series_by_id(series_id)

    def answer() -> bytes:
        rows = read_downsampled(context.score_log, series_id, begin, end, points)
        return to_json(_scores_json(view, rows))

    return Response(await asyncio.to_thread(answer), media_type="application/json")


def _scores_json(view: SeriesView, rows: ScoreRows) -> dict[str, object]:
    times = np.datetime_as_string(rows.times.astype("datetime64[ns]"), unit="ms", timezone="UTC")
    names = ("value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper")
    columns = {"time": times.tolist(), **{name: np.ascontiguousarray(getattr(rows, name)) for name in names}}
    return {"id": view.id, "series": view.series, "unit": view.unit, "columns": columns}
