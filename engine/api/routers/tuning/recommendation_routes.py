"""Recommendations, and what people decide of them."""

import hashlib
from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from trimtab.engine.api.api_context import Here, Who
from trimtab.engine.api.detail_views import recommendation_story, shadow_sum
from trimtab.engine.api.idempotency import IdempotencyKey, once_async
from trimtab.engine.api.loop_ports import Loop
from trimtab.engine.api.parameters import ULID_FORM, After, Limit, RecommendationId, instant, ulid
from trimtab.engine.api.shapes.examples import ACTION, RECOMMENDATION
from trimtab.engine.api.shapes.json_shapes import Shape, json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ActionShape,
    RecommendationShape,
    answers,
    noun_json,
    page_json,
    page_of,
)
from trimtab.engine.errors import InputError
from trimtab.engine.types import Action, Recommendation, RecommendationState

router = APIRouter(prefix="/api/recommendations", tags=["recommendations"])


class RecommendationDetail(RecommendationShape):  # type: ignore[misc, valid-type]  # made from the noun
    """A recommendation with its actions."""

    actions: list[ActionShape]  # type: ignore[valid-type]  # as above
    waiting: str = Field(description="Why it is not done now although its mode or a person would let it.")


class ShadowSum(Shape):
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


_EXAMPLE = noun_json(RECOMMENDATION)
_ONE = answers(RecommendationShape, _EXAMPLE)
_SUM = {
    "actions": 5, "over": 3, "done": 1, "changed": 0, "went_on": 0, "open": 1, "worse": 1,
    "since": "2026-01-01T00:02:00.000Z",
}  # fmt: skip
_PAGE = {
    **answers(page_of(RecommendationShape, "RecommendationPage"), {"items": [_EXAMPLE], "next": None}),
    304: {"description": "Nothing changed since the answer whose `ETag` was sent as `If-None-Match`."},
}
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", max_length=1000, description="`ETag` of the answer before.")
]


@router.get("", summary="List recommendations", responses=_PAGE)
def list_recommendations(
    loop: Loop,
    state: RecommendationState | None = None,
    incident_id: Annotated[str | None, Query(pattern=ULID_FORM, description="Only of this incident.")] = None,
    tool: Annotated[str | None, Query(max_length=200)] = None,
    target: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 100,
    after: After = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A page of recommendations, newest first. Poll it with `If-None-Match`, or listen to `/api/stream`."""
    found = loop.ledger.recommendations(
        state=state,
        incident_id=incident_id,
        tool=tool,
        target=target,
        after=None if after is None else ulid("after", after),
        limit=limit + 1,
    )
    return _tagged(to_json(page_json(found, limit)), if_none_match or "")


def _tagged(body: bytes, known: str) -> Response:
    """The body with its ETag; nothing where the caller knows it already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in {one.strip().removeprefix("W/") for one in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


@router.get("/shadow", summary="Had it been auto", responses=answers(ShadowSum, _SUM))
def shadow(loop: Loop) -> Response:
    """What mode auto would have done of the newest 1,000 recommendations, and how that ended without it."""
    return json_response(shadow_sum(loop.ledger.recommendations(limit=1000)))


@router.get(
    "/{recommendation_id}", summary="One recommendation",
    responses=answers(RecommendationDetail, {**_EXAMPLE, "actions": [noun_json(ACTION)], "waiting": ""}),
)  # fmt: skip
def one_recommendation(loop: Loop, recommendation_id: RecommendationId) -> Response:
    """A recommendation with its actions."""
    return json_response(recommendation_story(loop, loop.ledger.recommendation(recommendation_id)))


@router.post("/{recommendation_id}/approve", summary="Approve it", responses=_ONE)
async def approve(
    request: Request, here: Here, loop: Loop, who: Who, recommendation_id: RecommendationId,
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Let it be done as soon as the guardrails allow. Who proposed it may not approve it."""
    return await once_async(
        here, request, who, key, "", lambda _: _decided(loop.desk.approve(recommendation_id, who.name))
    )


@router.post("/{recommendation_id}/dismiss", summary="Dismiss it", responses=_ONE)
async def dismiss(
    request: Request, here: Here, loop: Loop, who: Who, recommendation_id: RecommendationId,
    body: DismissBody, key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """It will not be done; the reason is learnt from."""
    return await once_async(
        here, request, who, key, body.model_dump_json(),
        lambda _: _decided(loop.desk.dismiss(recommendation_id, who.name, body.reason)),
    )  # fmt: skip


@router.post("/{recommendation_id}/schedule", summary="Do it later", responses=_ONE)
async def schedule(
    request: Request, here: Here, loop: Loop, who: Who, recommendation_id: RecommendationId,
    body: ScheduleBody, key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Let it be done at a time, if the guardrails allow it then."""
    at = instant("at", body.at)
    if at <= here.clock.now():
        raise InputError(f"at is {body.at}, wanted is a time to come; to do it now, apply it")
    return await once_async(
        here, request, who, key, body.model_dump_json(),
        lambda _: _decided(loop.desk.schedule(recommendation_id, who.name, at)),
    )  # fmt: skip


@router.post(
    "/{recommendation_id}/apply", status_code=201, summary="Do it now",
    responses=answers(ActionShape, noun_json(ACTION), 201),
)  # fmt: skip
async def apply(
    request: Request, here: Here, loop: Loop, who: Who, recommendation_id: RecommendationId,
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Do it at once, within the guardrails. The answer is the action, which goes on to be verified."""
    return await once_async(
        here, request, who, key, "", lambda own: _begun(loop.desk.apply(recommendation_id, who.name, own))
    )


async def _decided(deciding: Awaitable[Recommendation]) -> tuple[int, bytes]:
    return 200, to_json(noun_json(await deciding))


async def _begun(beginning: Awaitable[Action]) -> tuple[int, bytes]:
    return 201, to_json(noun_json(await beginning))
