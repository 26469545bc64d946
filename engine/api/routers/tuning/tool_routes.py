"""Routes of managed tools, their knobs and actions."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.detail_views import list_all_knobs
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.parameters import TargetName, ToolName
from trimtab.engine.api.path_names import decode_name
from trimtab.engine.api.shapes.examples import ACTION, KNOB, KNOB_READING, TARGET, TOOL
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    ActionShape,
    KnobShape,
    TargetShape,
    ToolShape,
    example_response,
    knob_json,
    record_json,
    target_json,
    tool_json,
)
from trimtab.engine.errors import RefusedError
from trimtab.engine.ports import Toolbox
from trimtab.engine.types import Action

router = APIRouter(prefix="/api", tags=["tools"])
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
KnobValue = bool | Int64 | FiniteFloat | Annotated[str, Field(max_length=10_000)] | None
KnobName = Annotated[
    str,
    AfterValidator(decode_name),
    Path(max_length=200, description="Name of a knob; write `/` as %2F.", examples=["maxmemory"]),
]
ActionName = Annotated[
    str,
    AfterValidator(decode_name),
    Path(max_length=200, description="Name of the action.", examples=["warm_keys"]),
]


class ToolList(JsonShape):
    """All configured tools."""

    items: list[ToolShape]  # type: ignore[valid-type]  # derived from the dataclass


class ToolDetail(ToolShape):  # type: ignore[misc, valid-type]  # as above
    """A tool with the commands that grant it access."""

    grant: str | None = Field(
        description="Commands that create its least privileged account; null = disabled."
    )


class KnobProblem(JsonShape):
    """A target whose knobs could not be read."""

    tool: str
    target: str
    problem: str


class KnobList(JsonShape):
    """All knobs of all targets."""

    items: list[KnobShape]
    problems: list[KnobProblem]


class EnabledBody(BaseModel):
    """Whether the tool is enabled."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": False}]})
    enabled: bool


class KnobBody(BaseModel):
    """A change of a knob. `before` is its expected current value; after = null resets it to the default."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"before": ACTION.before, "after": ACTION.after}]}
    )
    before: KnobValue
    after: KnobValue


_ACTION = example_response(ActionShape, record_json(ACTION), 201)
_KNOB = knob_json(TARGET, KNOB, KNOB_READING)


@router.get(
    "/tools", summary="List tools", responses=example_response(ToolList, {"items": [tool_json(TOOL)]})
)
async def list_tools(ports: LoopPortsDep) -> Response:
    """All configured tools with their state."""
    return json_response({"items": [tool_json(view) for view in await ports.toolbox.views()]})


@router.get(
    "/tools/{name}",
    summary="One tool",
    responses=example_response(
        ToolDetail, {**tool_json(TOOL), "grant": "ACL SETUSER trimtab on +info +config|get"}
    ),
)
async def one_tool(ports: LoopPortsDep, name: ToolName) -> Response:
    """A tool with its state, its targets, and the commands that grant it access."""
    view = await ports.toolbox.view(name)
    return json_response({**tool_json(view), "grant": _grant(ports.toolbox, name)})


@router.put(
    "/tools/{name}",
    summary="Enable or disable a tool",
    responses=example_response(ToolShape, tool_json(TOOL)),
)
async def switch_tool(write: WriteDep, ports: LoopPortsDep, name: ToolName, body: EnabledBody) -> Response:
    """Enable or disable a tool; enabling ends a quarantine."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _switch_tool(ports, name, body.enabled, write.caller),
    )


@router.get(
    "/tools/{name}/targets/{target}",
    summary="One target",
    responses=example_response(TargetShape, target_json(TARGET)),
)
async def one_target(ports: LoopPortsDep, name: ToolName, target: TargetName) -> Response:
    """Current metrics, knobs with their values, and actions of one target."""
    return json_response(target_json(await ports.toolbox.target(name, target)))


@router.post(
    "/tools/{name}/targets/{target}/actions/{action}",
    status_code=201,
    summary="Run an action",
    responses=_ACTION,
)
async def run(
    write: WriteDep, ports: LoopPortsDep, name: ToolName, target: TargetName, action: ActionName
) -> Response:
    """Run an action of a tool once, within the guard rules."""
    return await write.respond_async(
        "",
        lambda operation_key: _action_response(
            ports.decisions.run(name, target, action, write.caller, operation_key)
        ),
    )


@router.put(
    "/tools/{name}/targets/{target}/knobs/{knob}", status_code=201, summary="Set a knob", responses=_ACTION
)
async def set_knob(
    write: WriteDep, ports: LoopPortsDep, name: ToolName, target: TargetName, knob: KnobName, body: KnobBody
) -> Response:
    """Set a knob, within the guard rules, if its value is still `before`."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda operation_key: _action_response(
            ports.decisions.set_knob(name, target, knob, body.before, body.after, write.caller, operation_key)
        ),
    )


@router.get(
    "/knobs", summary="List knobs", responses=example_response(KnobList, {"items": [_KNOB], "problems": []})
)
async def list_knobs(ports: LoopPortsDep) -> Response:
    """Knobs of all readable targets; `problems` lists the others."""
    return json_response(await list_all_knobs(ports.toolbox))


def _grant(toolbox: Toolbox, name: str) -> str | None:
    try:
        return toolbox.tool(name).grant()
    except RefusedError:
        return None


async def _switch_tool(ports: LoopPorts, name: str, enabled: bool, by: str) -> tuple[int, bytes]:
    await ports.toolbox.view(name)
    what = "tool enabled" if enabled else "tool disabled"
    await asyncio.to_thread(ports.ledger.append_audit, what, name, by)
    return 200, to_json(tool_json(await ports.toolbox.enable(name, enabled)))


async def _action_response(pending: Awaitable[Action]) -> tuple[int, bytes]:
    return 201, to_json(record_json(await pending))
