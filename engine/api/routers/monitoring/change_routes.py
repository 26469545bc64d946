"""Routes of change events, such as deploys; incidents show the changes near them."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.parameters import (
    After,
    Limit,
    Since,
    Until,
    parse_optional_time,
    parse_time,
    parse_ulid,
)
from trimtab.engine.api.shapes.examples import CHANGE
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ChangeShape,
    example_response,
    make_page_shape,
    page_json,
    record_json,
)
from trimtab.engine.types import Change, ChangeKind, new_ulid

router = APIRouter(prefix="/api/changes", tags=["incidents"])
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=200)]
LabelValue = Annotated[str, Field(max_length=1024)]


class ChangeBody(BaseModel):
    """A change event."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "deploy",
                    "title": "checkout 2.14.0",
                    "labels": {"service": "checkout"},
                    "url": CHANGE.url,
                }
            ]
        },
    )
    kind: ChangeKind = ChangeKind.OTHER
    title: str = Field(min_length=1, max_length=300)
    time: str | None = Field(None, description="Time of the change, ISO 8601 with offset; null = now.")
    labels: dict[LabelName, LabelValue] = Field({}, max_length=50)
    url: str = Field("", max_length=2000, pattern=r"^(https?://\S+)?$")


_EXAMPLE = record_json(CHANGE)
_PAGE = example_response(make_page_shape(ChangeShape, "ChangePage"), {"items": [_EXAMPLE], "next": None})


@router.get("", summary="List changes", responses=_PAGE)
def list_changes(
    ports: LoopPortsDep, since: Since = None, until: Until = None, limit: Limit = 100, after: After = None
) -> Response:
    """A page of change events (deploys, restarts, configuration, own actions), newest first."""
    found = ports.incidents.changes(
        since=parse_optional_time("since", since),
        until=parse_optional_time("until", until),
        after=None if after is None else parse_ulid("after", after),
        limit=limit + 1,
    )
    return json_response(page_json(found, limit))


@router.post(
    "", status_code=201, summary="Report a change", responses=example_response(ChangeShape, _EXAMPLE, 201)
)
def tell_change(write: WriteDep, ports: LoopPortsDep, body: ChangeBody) -> Response:
    """Report a deploy, restart or configuration change; incidents after it show it."""
    now = write.context.clock.now()
    time = now if body.time is None else parse_time("time", body.time)
    change = Change(new_ulid(now), time, body.kind, body.title, write.caller, body.labels, body.url)
    return write.respond(body.model_dump_json(), lambda: _save_change(ports, change))


def _save_change(ports: LoopPorts, change: Change) -> tuple[int, bytes]:
    ports.incidents.save_change(change)
    return 201, to_json(record_json(change))
