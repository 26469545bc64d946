"""Routes of anomalies and of feedback on them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.api_context import ApiContext, ContextDep
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.parameters import SERIES_ID as SERIES_ID_FORM
from trimtab.engine.api.parameters import (
    After,
    AnomalyId,
    Limit,
    SearchText,
    Since,
    Until,
    parse_optional_time,
    parse_ulid,
)
from trimtab.engine.api.shapes.json_shapes import (
    AnomalyDetail,
    AnomalyPage,
    FeedbackShape,
    anomaly_json,
    feedback_json,
    json_response,
    to_json,
)
from trimtab.engine.types import Direction, Feedback, Verdict

router = APIRouter(prefix="/api/anomalies", tags=["anomalies"])


class FeedbackBody(BaseModel):
    """Feedback on an anomaly."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"verdict": "wrong", "note": "nightly backup"}]}
    )
    verdict: Verdict
    note: str = Field("", max_length=2000)


@router.get("", summary="List anomalies", responses={200: {"model": AnomalyPage}})
def list_anomalies(
    context: ContextDep,
    series_id: Annotated[
        str | None, Query(pattern=SERIES_ID_FORM, description="Only of this series.")
    ] = None,
    source: Annotated[str | None, Query(max_length=200, description="Only of this source.")] = None,
    open: Annotated[bool, Query(description="Only open anomalies.")] = False,  # noqa: A002 - its name in the API
    since: Since = None,
    until: Until = None,
    min_score: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    direction: Direction | None = None,
    search: SearchText = "",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of anomalies, newest first."""
    found = context.store.anomalies(
        series_id=series_id,
        source=source,
        open_only=open,
        since=parse_optional_time("since", since),
        until=parse_optional_time("until", until),
        min_score=min_score,
        direction=direction,
        search=search or None,
        after=None if after is None else parse_ulid("after", after),
        limit=limit + 1,
    )
    next_cursor = found[limit - 1].id if len(found) > limit else None
    return json_response({"items": [anomaly_json(a) for a in found[:limit]], "next": next_cursor})


@router.get("/{anomaly_id}", summary="One anomaly", responses={200: {"model": AnomalyDetail}})
def one_anomaly(context: ContextDep, anomaly_id: AnomalyId) -> Response:
    """An anomaly with its feedback."""
    anomaly = anomaly_json(context.store.anomaly(anomaly_id))
    feedback = [feedback_json(item) for item in context.store.feedback(anomaly_id)]
    return json_response({**anomaly, "feedback": feedback})


@router.post(
    "/{anomaly_id}/feedback", status_code=201, summary="Give feedback",
    responses={201: {"model": FeedbackShape}},
)  # fmt: skip
def give_feedback(write: WriteDep, anomaly_id: AnomalyId, body: FeedbackBody) -> Response:
    """Store feedback on an anomaly; it replaces earlier feedback of the same author."""
    return write.respond(
        body.model_dump_json(),
        lambda: _save_feedback(write.context, anomaly_id, body, write.caller),
    )


def _save_feedback(
    context: ApiContext, anomaly_id: str, body: FeedbackBody, author: str
) -> tuple[int, bytes]:
    feedback = Feedback(anomaly_id, body.verdict, body.note, author, context.clock.now())
    context.store.save_feedback(feedback)
    return 201, to_json(feedback_json(feedback))
