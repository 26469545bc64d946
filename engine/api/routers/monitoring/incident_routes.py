"""Routes of incidents: lists, details, and operator actions."""

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.detail_views import incident_detail
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPortsDep
from trimtab.engine.api.parameters import (
    ULID_FORM,
    After,
    IncidentId,
    Limit,
    SearchText,
    Since,
    Until,
    parse_optional_time,
    parse_ulid,
)
from trimtab.engine.api.shapes.examples import ACTION, CHANGE, INCIDENT, RECOMMENDATION
from trimtab.engine.api.shapes.json_shapes import AnomalyShape, JsonShape, json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ChangeShape,
    IncidentShape,
    RecommendationShape,
    example_response,
    make_page_shape,
    page_json,
    record_json,
)
from trimtab.engine.types import ActionState, Incident, IncidentState

router = APIRouter(prefix="/api/incidents", tags=["incidents"])
Ulid = Annotated[str, Field(pattern=ULID_FORM)]


class Done(JsonShape):
    """An action taken in an incident, with its outcome."""

    title: str
    state: ActionState
    words: str


class Alike(IncidentShape):  # type: ignore[misc, valid-type]  # derived from the dataclass
    """A similar past incident."""

    done: list[Done]


class IncidentDetail(IncidentShape):  # type: ignore[misc, valid-type]  # as above
    """An incident with its anomalies, changes, recommendations and similar incidents."""

    anomalies: list[AnomalyShape] = Field(description="The first 100; `anomaly_ids` lists all.")
    changes: list[ChangeShape]  # type: ignore[valid-type]  # as above
    recommendations: list[RecommendationShape]  # type: ignore[valid-type]  # as above
    alike: list[Alike]


class NoteBody(BaseModel):
    """A note of the operator."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"note": "I am investigating"}]}
    )
    note: str = Field("", max_length=2000)


class MergeBody(BaseModel):
    """The incident to merge into."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"into": INCIDENT.id}]})
    into: Ulid


class SplitBody(BaseModel):
    """The anomalies to move into a new incident."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"anomaly_ids": list(INCIDENT.anomaly_ids)}]}
    )
    anomaly_ids: list[Ulid] = Field(min_length=1, max_length=1000)


_EXAMPLE = record_json(INCIDENT)
_DETAIL_EXAMPLE = {
    **_EXAMPLE,
    "anomalies": [],
    "changes": [record_json(CHANGE)],
    "recommendations": [record_json(RECOMMENDATION)],
    "alike": [{
        **_EXAMPLE,
        "done": [{"title": RECOMMENDATION.title, "state": ACTION.state, "words": "no harm seen"}],
    }],
}  # fmt: skip
_PAGE = example_response(make_page_shape(IncidentShape, "IncidentPage"), {"items": [_EXAMPLE], "next": None})
_ONE = example_response(IncidentShape, _EXAMPLE)
_NO_NOTE = NoteBody(note="")


@router.get("", summary="List incidents", responses=_PAGE)
def list_incidents(
    ports: LoopPortsDep,
    state: IncidentState | None = None,
    open: Annotated[bool, Query(description="Only open incidents.")] = False,  # noqa: A002 - its name in the API
    since: Since = None,
    until: Until = None,
    pattern: Annotated[str | None, Query(max_length=200, description="Only with this pattern.")] = None,
    min_severity: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
    search: SearchText = "",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """A page of incidents, newest first; incidents that were merged into another are omitted."""
    found = ports.incidents.incidents(
        state=state,
        open_only=open,
        since=parse_optional_time("since", since),
        until=parse_optional_time("until", until),
        pattern=pattern,
        min_severity=min_severity,
        search=search or None,
        after=None if after is None else parse_ulid("after", after),
        limit=limit + 1,
    )
    return json_response(page_json(found, limit))


@router.get(
    "/{incident_id}", summary="One incident", responses=example_response(IncidentDetail, _DETAIL_EXAMPLE)
)
def one_incident(context: ContextDep, ports: LoopPortsDep, incident_id: IncidentId) -> Response:
    """An incident with suspects, patterns, anomalies, changes, recommendations and similar incidents."""
    return json_response(incident_detail(ports, context.store, ports.incidents.incident(incident_id)))


@router.post("/{incident_id}/acknowledge", summary="Acknowledge an incident", responses=_ONE)
async def acknowledge(
    write: WriteDep, ports: LoopPortsDep, incident_id: IncidentId, body: NoteBody = _NO_NOTE
) -> Response:
    """Acknowledge an incident: an operator is working on it."""
    actions = ports.incident_actions
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _incident_response(actions.acknowledge(incident_id, write.caller, body.note)),
    )


@router.post("/{incident_id}/resolve", summary="Resolve an incident", responses=_ONE)
async def resolve(
    write: WriteDep, ports: LoopPortsDep, incident_id: IncidentId, body: NoteBody = _NO_NOTE
) -> Response:
    """Resolve an incident: it is over, or is no problem."""
    actions = ports.incident_actions
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _incident_response(actions.resolve(incident_id, write.caller, body.note)),
    )


@router.post("/{incident_id}/reopen", summary="Reopen an incident", responses=_ONE)
async def reopen(
    write: WriteDep, ports: LoopPortsDep, incident_id: IncidentId, body: NoteBody = _NO_NOTE
) -> Response:
    """Reopen an acknowledged or resolved incident."""
    actions = ports.incident_actions
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _incident_response(actions.reopen(incident_id, write.caller, body.note)),
    )


@router.post("/{incident_id}/merge", summary="Merge an incident", responses=_ONE)
async def merge(write: WriteDep, ports: LoopPortsDep, incident_id: IncidentId, body: MergeBody) -> Response:
    """Move the anomalies into another incident; returns that incident."""
    actions = ports.incident_actions
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _incident_response(actions.merge(incident_id, body.into, write.caller)),
    )


@router.post("/{incident_id}/split", summary="Split an incident", responses=_ONE)
async def split(write: WriteDep, ports: LoopPortsDep, incident_id: IncidentId, body: SplitBody) -> Response:
    """Move some of the anomalies into a new incident; returns the new incident."""
    actions = ports.incident_actions
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _incident_response(actions.split(incident_id, body.anomaly_ids, write.caller)),
    )


async def _incident_response(pending: Awaitable[Incident]) -> tuple[int, bytes]:
    return 200, to_json(record_json(await pending))
