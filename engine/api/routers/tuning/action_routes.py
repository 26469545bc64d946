"""Routes of actions: list, details, rollback."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from trimtab.engine.api.detail_views import action_detail
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.parameters import (
    ULID_FORM,
    ActionId,
    After,
    Limit,
    Since,
    parse_optional_time,
    parse_ulid,
)
from trimtab.engine.api.shapes.examples import ACTION, AUDIT_ROW, RECOMMENDATION
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ActionShape,
    AuditRowShape,
    RecommendationShape,
    example_response,
    make_page_shape,
    page_json,
    record_json,
)
from trimtab.engine.types import ActionState

router = APIRouter(prefix="/api/actions", tags=["actions"])


class ActionDetail(ActionShape):  # type: ignore[misc, valid-type]  # derived from the dataclass
    """An action with its recommendation and its audit rows, oldest first."""

    recommendation: RecommendationShape | None  # type: ignore[valid-type]  # as above
    audit: list[AuditRowShape]  # type: ignore[valid-type]  # as above


_EXAMPLE = record_json(ACTION)
_DETAIL_EXAMPLE = {
    **_EXAMPLE,
    "recommendation": record_json(RECOMMENDATION),
    "audit": [record_json(AUDIT_ROW)],
}


@router.get(
    "",
    summary="List actions",
    responses=example_response(
        make_page_shape(ActionShape, "ActionPage"), {"items": [_EXAMPLE], "next": None}
    ),
)
def list_actions(
    ports: LoopPortsDep,
    state: ActionState | None = None,
    unfinished: Annotated[bool, Query(description="Only actions that are not final.")] = False,
    recommendation_id: Annotated[str | None, Query(pattern=ULID_FORM)] = None,
    tool: Annotated[str | None, Query(max_length=200)] = None,
    target: Annotated[str | None, Query(max_length=200)] = None,
    since: Since = None,
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of actions, newest first."""
    found = ports.ledger.actions(
        state=state,
        unfinished=unfinished,
        recommendation_id=recommendation_id,
        tool=tool,
        target=target,
        since=parse_optional_time("since", since),
        after=None if after is None else parse_ulid("after", after),
        limit=limit + 1,
    )
    return json_response(page_json(found, limit))


@router.get("/{action_id}", summary="One action", responses=example_response(ActionDetail, _DETAIL_EXAMPLE))
def one_action(ports: LoopPortsDep, action_id: ActionId) -> Response:
    """An action with its recommendation and its audit rows."""
    return json_response(action_detail(ports.ledger, ports.ledger.action(action_id)))


@router.post(
    "/{action_id}/rollback",
    status_code=201,
    summary="Roll back an action",
    responses=example_response(ActionShape, _EXAMPLE, 201),
)
async def roll_back(write: WriteDep, ports: LoopPortsDep, action_id: ActionId) -> Response:
    """Restore the exact previous value, unless it was changed since. Returns the action that does so."""
    return await write.respond_async(
        "", lambda operation_key: _roll_back(ports, action_id, write.caller, operation_key)
    )


async def _roll_back(ports: LoopPorts, action_id: str, by: str, key: str) -> tuple[int, bytes]:
    return 201, to_json(record_json(await ports.decisions.roll_back(action_id, by, key)))
