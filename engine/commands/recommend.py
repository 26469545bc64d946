"""`trimtab recommend`: a read-only look at a Redis and a PostgreSQL, without history or Prometheus."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.commands.listing import Form, listing
from trimtab.engine.commands.options import ConfigFile, Format, config_file

if TYPE_CHECKING:
    from trimtab.engine.advising.checkup import Finding
    from trimtab.engine.ports import Tool
    from trimtab.engine.settings.tools import ToolSettings
    from trimtab.engine.types import Knob, KnobReading

COLUMNS = ("tool", "target", "finding", "evidence", "advice", "change")
UNREACHABLE, FOUND = 3, 1
Url = Annotated[str | None, typer.Option(metavar="URL", help="Instead of what the settings name.")]


@dataclass(frozen=True, slots=True)
class Seen:
    """One target: what was found, or why it could not be read."""

    tool: str
    target: str
    findings: "tuple[Finding, ...]" = ()
    problem: str = ""
    commands: tuple[str, ...] = ()


def recommend(
    redis: Url = None,
    postgresql: Url = None,
    config: ConfigFile = None,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=110.0, help="Between the two looks; longer tells more.")
    ] = 20.0,
    form: Format = Form.TABLE,
) -> None:
    """Look twice at data stores and say what would help; nothing is changed.

    Exit code 1 = something found, 3 = a store does not answer.
    """
    tools = _tools({"redis": redis, "postgresql": postgresql}, config)
    seen = asyncio.run(_look(tools, seconds))
    rows = [row for one in seen for row in _rows(one)]
    if rows or form is not Form.TABLE:
        typer.echo(listing(rows, COLUMNS, form))
    for one in seen:
        if one.problem:
            typer.echo(f"{one.tool}: {one.problem}", err=True)
        elif not one.findings:
            typer.echo(f"{one.tool}/{one.target}: nothing worth changing was seen in {seconds:g} s", err=True)
    if any(one.problem for one in seen):
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(FOUND if rows else 0)


def _tools(urls: Mapping[str, str | None], config: Path | None) -> "list[tuple[str, Tool]]":
    """Kind and tool of each URL; without any, the data stores of the settings. Raises SettingsError."""
    from pydantic import ValidationError

    from trimtab.engine.errors import SettingsError
    from trimtab.engine.redaction import clean_text
    from trimtab.engine.settings.file import load_settings
    from trimtab.engine.settings.tools import settings_class

    given = {kind: url for kind, url in urls.items() if url is not None}
    if not given:
        settings = load_settings(config_file(config), os.environ).tools
        found = {name: part for name, part in settings.items() if part.kind in urls and part.enabled}
        if not found:
            raise SettingsError(
                "there is nothing to look at: give --redis URL or --postgresql URL, or write `tools:` into "
                "trimtab.yaml"
            )
        return [(part.kind, _built(name, part)) for name, part in found.items()]
    tools = []
    for kind, url in given.items():
        section = settings_class(kind)
        assert section is not None  # noqa: S101 - both kinds are our own
        try:
            part = section.model_validate({"kind": kind, "url": url})
        except ValidationError as error:
            said = f"--{kind} {url!r}: {error.errors()[0]['msg']}"
            raise SettingsError(clean_text(said)) from None
        tools.append((kind, _built(kind, part)))
    return tools


def _built(name: str, part: "ToolSettings") -> "Tool":
    from trimtab.engine.errors import SettingsError
    from trimtab.engine.tools import catalogue

    try:
        return catalogue.build(name, part)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{name}: {error.name} is not installed; pip install 'trimtab[{part.kind}]'"
        ) from None


async def _look(tools: "list[tuple[str, Tool]]", seconds: float) -> list[Seen]:
    """Two looks at every target, all at the same time."""
    try:
        parts = [_one(kind, tool, target, seconds) for kind, tool in tools for target in tool.targets]
        return list(await asyncio.gather(*parts))
    finally:
        for _, tool in tools:
            await tool.close()


async def _one(kind: str, tool: "Tool", target: str, seconds: float) -> Seen:
    from trimtab.engine.advising.checkup import Looks
    from trimtab.engine.advising.facts import Facts
    from trimtab.engine.advising.standing import all_findings
    from trimtab.engine.errors import EngineError

    try:
        earlier = await tool.metrics(target)
        await asyncio.sleep(seconds)
        now = await tool.metrics(target)
        knobs = {knob.name: (knob, await _read(tool, target, knob)) for knob in await tool.knobs(target)}
        actions = {action.name: action for action in await tool.actions(target)}
    except EngineError as error:
        return Seen(tool.name, target, problem=str(error))
    facts = Facts(tool.name, kind, target, now, knobs, actions, writable=False)
    found = tuple(all_findings(Looks(facts, earlier, seconds)))
    commands = tuple(
        tool.command(target, one.remedy.subject, one.remedy.after) if one.remedy is not None else ""
        for one in found
    )
    return Seen(tool.name, target, found, commands=commands)


async def _read(tool: "Tool", target: str, knob: "Knob") -> "KnobReading | None":
    """None = this server does not have it."""
    from trimtab.engine.errors import NotFoundError

    try:
        return await tool.read(target, knob.name)
    except NotFoundError:
        return None


def _rows(seen: Seen) -> list[dict[str, object]]:
    return [
        {
            "tool": seen.tool, "target": seen.target, "finding": found.title,
            "evidence": list(found.evidence), "advice": found.advice,
            "change": found.remedy.title if found.remedy is not None else None, "command": command or None,
        }
        for found, command in zip(seen.findings, seen.commands, strict=True)
    ]  # fmt: skip
