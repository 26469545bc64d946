"""Recommendations, and what people decide of them."""

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


class RecommendationDetail(RecommendationShape):  # type: ignore[misc, valid-type]  # made from the noun
    """A recommendation with its actions."""

    actions: list[ActionShape]  # type: ignore[valid-type]  # as above
    waiting: str = Field(description="Why it is not done now although its mode or a person would let it.")


class ShadowSum(JsonShape):
    """Of how many recommendations mode auto would have made an action, and what became of them."""

    actions: int = Field(description="That it would have done; the sum of the others.")
    over: int = Field(description="Of what these were for ended without them.")
    done: int = Field(description="People had done after all.")
    changed: int = Field(description="Something else was done on the same target.")
    went_on: int = Field(description="Still went on a day later.")
    open: int = Field(description="Go on now.")
    worse: int = Field(description="Of all of them: the incident became worse meanwhile.")
    since: str | None = Field(description="When the first would have been done; null = there is none.")


class DismissBody(BaseModel):
    """Why it will not be done."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "this cache is moved next week"}]}
    )
    reason: str = Field(min_length=1, max_length=2000)


class ScheduleBody(BaseModel):
    """When it will be done."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"at": "2026-01-02T03:00:00Z"}]}
    )
    at: str = Field(max_length=100, description="A later time, ISO 8601 with offset.")


_EXAMPLE = record_json(RECOMMENDATION)
_ONE = example_response(RecommendationShape, _EXAMPLE)
_SHADOW_EXAMPLE = {
    "actions": 5, "over": 3, "done": 1, "changed": 0, "went_on": 0, "open": 1, "worse": 1,
    "since": "2026-01-01T00:02:00.000Z",
}  # fmt: skip
_PAGE = {
    **example_response(
        make_page_shape(RecommendationShape, "RecommendationPage"), {"items": [_EXAMPLE], "next": None}
    ),
    304: {"description": "Nothing changed since the answer whose `ETag` was sent as `If-None-Match`."},
}
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", max_length=1000, description="`ETag` of the answer before.")
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
    """A page of recommendations, newest first. Poll it with `If-None-Match`, or listen to `/api/stream`."""
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
    """The body with its ETag; nothing where the caller knows it already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in {one.strip().removeprefix("W/") for one in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


@router.get("/shadow", summary="Had it been auto", responses=example_response(ShadowSum, _SHADOW_EXAMPLE))
def shadow(ports: LoopPortsDep) -> Response:
    """What mode auto would have done of the newest 1,000 recommendations, and how that ended without it."""
    return json_response(shadow_summary(ports.ledger.recommendations(limit=1000)))


@router.get(
    "/{recommendation_id}", summary="One recommendation",
    responses=example_response(RecommendationDetail, {**_EXAMPLE, "actions": [record_json(ACTION)], "waiting": ""}),
)  # fmt: skip
def one_recommendation(ports: LoopPortsDep, recommendation_id: RecommendationId) -> Response:
    """A recommendation with its actions."""
    return json_response(recommendation_detail(ports, ports.ledger.recommendation(recommendation_id)))


@router.post("/{recommendation_id}/approve", summary="Approve it", responses=_ONE)
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
    """It will not be done; the reason is learnt from."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _recommendation_response(
            ports.decisions.dismiss(recommendation_id, write.caller, body.reason)
        ),
    )


@router.post("/{recommendation_id}/schedule", summary="Do it later", responses=_ONE)
async def schedule(
    write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId, body: ScheduleBody
) -> Response:
    """Let it be done at a time, if the guardrails allow it then."""
    at = parse_time("at", body.at)
    if at <= write.context.clock.now():
        raise InputError(f"at is {body.at}, wanted is a time to come; to do it now, apply it")
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _recommendation_response(ports.decisions.schedule(recommendation_id, write.caller, at)),
    )


@router.post(
    "/{recommendation_id}/apply", status_code=201, summary="Do it now",
    responses=example_response(ActionShape, record_json(ACTION), 201),
)  # fmt: skip
async def apply(write: WriteDep, ports: LoopPortsDep, recommendation_id: RecommendationId) -> Response:
    """Do it at once, within the guardrails. The answer is the action, which goes on to be verified."""
    return await write.respond_async(
        "",
        lambda operation_key: _action_response(
            ports.decisions.apply(recommendation_id, write.caller, operation_key)
        ),
    )


async def _recommendation_response(deciding: Awaitable[Recommendation]) -> tuple[int, bytes]:
    return 200, to_json(record_json(await deciding))


async def _action_response(beginning: Awaitable[Action]) -> tuple[int, bytes]:
    return 201, to_json(record_json(await beginning))
