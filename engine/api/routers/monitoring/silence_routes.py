"""Routes of silences: periods without notifications for some entities."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.api_context import ApiContext, ContextDep, PrincipalDep
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.parameters import SilenceId, parse_time
from trimtab.engine.api.shapes.examples import SILENCE, START
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import example_response
from trimtab.engine.api.shapes.silence_shapes import (
    MAX_ENTITIES,
    MAX_ENTITY_LENGTH,
    new_silence,
    silence_json,
    silence_state,
)

router = APIRouter(prefix="/api/silences", tags=["silences"])
Entity = Annotated[str, Field(min_length=1, max_length=MAX_ENTITY_LENGTH)]


class SilenceShape(JsonShape):
    """A period without notifications for incidents of these entities; the incidents are still listed."""

    id: str = Field(description="A ULID; settings/NAME for a silence of the settings.")
    entities: list[str] = Field(
        description="Names or patterns such as redis/*; all entities of an incident must match."
    )
    begin: str = Field(alias="from")
    until: str
    by: str
    note: str
    state: Literal["coming", "active", "over"]


class SilenceList(JsonShape):
    """Silences, newest first."""

    items: list[SilenceShape]


class SilenceBody(BaseModel):
    """A new silence."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"entities": ["redis/*"], "until": "2126-01-01T02:00:00Z", "note": "moving it"}]
        },
    )
    entities: list[Entity] = Field(
        min_length=1, max_length=MAX_ENTITIES, description="Names, or patterns such as redis/*."
    )
    begin: str | None = Field(
        None, alias="from", max_length=100, description="ISO 8601 with offset; null = now."
    )
    until: str = Field(max_length=100, description="ISO 8601 with offset.")
    note: str = Field("", max_length=2000, description="Reason, for other operators.")


_EXAMPLE = silence_json(SILENCE, START)
_ONE = example_response(SilenceShape, _EXAMPLE)


@router.get("", summary="List silences", responses=example_response(SilenceList, {"items": [_EXAMPLE]}))
def list_silences(
    context: ContextDep,
    ports: LoopPortsDep,
    over: Annotated[bool, Query(description="Include silences that ended in the last 30 days.")] = False,
) -> Response:
    """Active and coming silences of operators and of the settings."""
    now = context.clock.now()
    found = [*ports.ledger.silences(), *ports.configured_silences()]
    wanted = [item for item in found if over or silence_state(item, now) != "over"]
    return json_response({"items": [silence_json(item, now) for item in wanted]})


@router.post(
    "", status_code=201, summary="Create a silence", responses=example_response(SilenceShape, _EXAMPLE, 201)
)
async def add_silence(write: WriteDep, ports: LoopPortsDep, body: SilenceBody) -> Response:
    """Suppress notices of incidents that affect only these entities, from the next tick on."""
    return await write.respond_async(
        body.model_dump_json(), lambda _: _add_silence(write.context, ports, write.caller, body)
    )


@router.delete("/{silence_id}", summary="End a silence", responses=_ONE)
async def end_silence(
    context: ContextDep, ports: LoopPortsDep, principal: PrincipalDep, silence_id: SilenceId
) -> Response:
    """End a silence now; suppressed notices of open incidents are sent at the next tick."""
    ended = await asyncio.to_thread(ports.ledger.end_silence, silence_id, principal.name)
    return json_response(silence_json(ended, context.clock.now()))


async def _add_silence(
    context: ApiContext, ports: LoopPorts, by: str, body: SilenceBody
) -> tuple[int, bytes]:
    now = context.clock.now()
    begin = now if body.begin is None else parse_time("from", body.begin)
    silence = new_silence(body.entities, begin, parse_time("until", body.until), by, body.note, now)
    await asyncio.to_thread(ports.ledger.add_silence, silence)
    return 201, to_json(silence_json(silence, now))
