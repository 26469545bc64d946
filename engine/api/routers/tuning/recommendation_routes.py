"""Routes of recommendations and of decisions on them."""

import hashlib
from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.detail_views import recommendation_detail, shadow_summary
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPortsDep
from trimtab.engine.api.parameters import ULID_FORM, After, Limit, RecommendationId, parse_time, parse_ulid
from trimtab.engine.api.shapes.examples import ACTION, RECOMMENDATION
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ActionShape,
    RecommendationShape,
    example_response,
    make_page_shape,
    page_json,
    record_json,
)
from trimtab.engine.errors import InputError
from trimtab.engine.types import Action, Recommendation, RecommendationState

router = APIRouter(prefix="/api/recommendations", tags=["recommendations"])


class RecommendationDetail(RecommendationShape):  # type: ignore[misc, valid-type]  # derived from the dataclass
    """A recommendation with its actions."""

    actions: list[ActionShape]  # type: ignore[valid-type]  # as above
    waiting: str = Field(description="Why guard rules block it although its mode or an operator allows it.")


class ShadowSum(JsonShape):
    """Actions that mode auto would have taken, counted by how their problems ended without them."""

    actions: int = Field(description="Actions that it would have taken; the sum of the next five fields.")
    over: int = Field(description="The problem ended without the action.")
    done: int = Field(description="An operator applied the change.")
    changed: int = Field(description="Another change was made on the target.")
    went_on: int = Field(description="The problem lasted longer than a day.")
    open: int = Field(description="The problem is still open.")
    worse: int = Field(description="The incident became worse meanwhile; counted in addition.")
    since: str | None = Field(description="Time of the first one; null = there is none.")


class DismissBody(BaseModel):
    """Reason for dismissing it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "this cache is moved next week"}]}
    )
    reason: str = Field(min_length=1, max_length=2000)


class ScheduleBody(BaseModel):
    """Time at which to apply it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"at": "2026-01-02T03:00:00Z"}]}
    )
    at: str = Field(max_length=100, description="A future time, ISO 8601 with offset.")


_EXAMPLE = record_json(RECOMMENDATION)
_ONE = example_response(RecommendationShape, _EXAMPLE)
_SHADOW_EXAMPLE = {
    "actions": 5,
    "over": 3,
    "done": 1,
    "changed": 0,
    "went_on": 0,
    "open": 1,
    "worse": 1,
    "since": "2026-01-01T00:02:00.000Z",
}
_PAGE = {
    **example_response(
        make_page_shape(RecommendationShape, "RecommendationPage"), {"items": [_EXAMPLE], "next": None}
    ),
    304: {"description": "Unchanged since the response whose `ETag` was sent as `If-None-Match`."},
}
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", max_length=1000, description="`ETag` of the previous response.")
]


@router.get("", summary="List recommendations", responses=_PAGE)
def list_recommendations(
    ports: LoopPortsDep,
    state: RecommendationState | None = None,
    incident_id: Annotated[str | None, Query(pattern=ULID_FORM, description="Only of this incident.")] = None,
    tool: Annotated[str | None, Query(max_length=200)] = None,
    target: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 100,
    after: After = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A page of recommendations, newest first. Poll with `If-None-Match`, or use `/api/stream`."""
    found = ports.ledger.recommendations(
        state=state,
        incident_id=incident_id,
        tool=tool,
        target=target,
        after=None if after is None else parse_ulid("after", after),
        limit=limit + 1,
    )
    return _with_etag(to_json(page_json(found, limit)), if_none_match or "")


def _with_etag(body: bytes, known: str) -> Response:
    """Return the body with its ETag, or a 304 if the caller has this ETag."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in {item.strip().removeprefix("W/") for item in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


@router.get("/shadow", summary="Shadow summary", responses=example_response(ShadowSum, _SHADOW_EXAMPLE))
def shadow(ports: LoopPortsDep) -> Response:
    """What mode auto would have done with the newest 1,000 recommendations, and how the problems ended."""
    return json_response(shadow_summary(ports.ledger.recommendations(limit=1000)))


@router.get(
    "/{recommendation_id}",
    summary="One recommendation",
    responses=example_response(
        RecommendationDetail, {**_EXAMPLE, "actions": [record_json(ACTION)], "waiting": ""}
    ),
)
def one_recommendation(ports: LoopPortsDep, recommendation_id: RecommendationId) -> Response:
    """A recommendation with its actions."""
    return json_response(recommendation_detail(ports, ports.ledger.recommendation(recommendation_id)))


@router.post("/{recommendation_id}/approve", summary="Approve a recommendation", responses=_ONE)
async def approve(write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId) -> Response:
    """Let it be done as soon as the guardrails allow. Who proposed it may not approve it."""
    return await write.respond_async(
        "",
        lambda _: _recommendation_response(ports.decisions.approve(recommendation_id, write.caller)),
    )


@router.post("/{recommendation_id}/dismiss", summary="Dismiss it", responses=_ONE)
async def dismiss(
    write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId, body: DismissBody
) -> Response:
    """Dismiss it for a reason, which later recommendations take into account."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _recommendation_response(
            ports.decisions.dismiss(recommendation_id, write.caller, body.reason)
        ),
    )


@router.post("/{recommendation_id}/schedule", summary="Schedule a recommendation", responses=_ONE)
async def schedule(
    write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId, body: ScheduleBody
) -> Response:
    """Apply it at a given time, if the guard rules allow it then."""
    at = parse_time("at", body.at)
    if at <= write.context.clock.now():
        raise InputError(f"at is {body.at}, which is not in the future; use apply to apply it now")
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _recommendation_response(ports.decisions.schedule(recommendation_id, write.caller, at)),
    )


@router.post(
    "/{recommendation_id}/apply",
    status_code=201,
    summary="Apply a recommendation",
    responses=example_response(ActionShape, record_json(ACTION), 201),
)
async def apply(write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId) -> Response:
    """Apply it now, within the guard rules. Returns the action, which is then verified."""
    return await write.respond_async(
        "",
        lambda operation_key: _action_response(
            ports.decisions.apply(recommendation_id, write.caller, operation_key)
        ),
    )


async def _recommendation_response(pending: Awaitable[Recommendation]) -> tuple[int, bytes]:
    return 200, to_json(record_json(await pending))


async def _action_response(pending: Awaitable[Action]) -> tuple[int, bytes]:
    return 201, to_json(record_json(await pending))
