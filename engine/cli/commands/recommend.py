"""`trimtab recommend`: checks a Redis and a PostgreSQL read-only, without history or Prometheus."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.options import ConfigFile, Format, find_config_file
from trimtab.engine.cli.output import OutputFormat, format_rows

if TYPE_CHECKING:
    from trimtab.engine.ports import Tool
    from trimtab.engine.recommendations.one_off_check import Finding
    from trimtab.engine.settings.tools import ToolSettings
    from trimtab.engine.types import Knob, KnobReading

COLUMNS = ("tool", "target", "finding", "evidence", "advice", "change")
EXIT_UNREACHABLE, EXIT_FOUND = 3, 1
TIMEOUT_S = 118.0
"""Seconds after which the report is printed, even if a store hangs."""
Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="URL, instead of the settings. Other users may see a password in it."),
]
PasswordFile = Annotated[Path | None, typer.Option(metavar="FILE", help="File with the password.")]


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Findings of one target, or why it could not be read.

    commands : command line of each finding; "" = none
    """

    tool: str
    target: str
    findings: "tuple[Finding, ...]" = ()
    problem: str = ""
    commands: tuple[str, ...] = ()


def recommend(
    redis: Url = None,
    postgresql: Url = None,
    redis_password_file: PasswordFile = None,
    postgresql_password_file: PasswordFile = None,
    config: ConfigFile = None,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=110.0, help="Seconds between the two reads; more seconds find more.")
    ] = 20.0,
    form: Format = OutputFormat.TABLE,
) -> None:
    """Read data stores twice and recommend improvements within two minutes. Changes nothing.

    Passwords are also read from REDISCLI_AUTH and PGPASSWORD. Exit code 1 = something found, 3 = a store does
    not answer.
    """
    urls = {"redis": (redis, redis_password_file), "postgresql": (postgresql, postgresql_password_file)}
    tools = _select_tools(urls, config)
    reports = asyncio.run(_check_tools(tools, seconds))
    rows = [row for report in reports for row in _report_rows(report)]
    if rows or form is not OutputFormat.TABLE:
        typer.echo(format_rows(rows, COLUMNS, form))
    for report in reports:
        if report.problem:
            typer.echo(f"{report.tool}: {report.problem}", err=True)
        elif not report.findings:
            typer.echo(
                f"{report.tool}/{report.target}: found nothing worth changing in {seconds:g} s", err=True
            )
    if any(report.problem for report in reports):
        raise typer.Exit(EXIT_UNREACHABLE)
    raise typer.Exit(EXIT_FOUND if rows else 0)


def _select_tools(
    stores: "Mapping[str, tuple[str | None, Path | None]]", config: Path | None
) -> "list[tuple[str, Tool]]":
    """Return kind and tool of each URL; without a URL, the data stores of the settings. Raises SettingsError.

    stores : kind -> URL and password file
    """
    from trimtab.engine.cli.store_url import tool_settings_from_url
    from trimtab.engine.errors import SettingsError
    from trimtab.engine.settings.settings_file import load_settings

    for kind, (url, file) in stores.items():
        if file is not None and url is None:
            raise SettingsError(f"--{kind}-password-file needs --{kind} URL")
    urls = {kind: (url, file) for kind, (url, file) in stores.items() if url is not None}
    if urls:
        sections = {
            kind: tool_settings_from_url(kind, url, file, os.environ) for kind, (url, file) in urls.items()
        }
        return [(kind, _build_tool(kind, section)) for kind, section in sections.items()]
    settings = load_settings(find_config_file(config), os.environ).tools
    selected = {
        name: section for name, section in settings.items() if section.kind in stores and section.enabled
    }
    if not selected:
        raise SettingsError(
            "there is no data store to check: give --redis URL or --postgresql URL, or add `tools:` to "
            "trimtab.yaml"
        )
    return [(section.kind, _build_tool(name, section)) for name, section in selected.items()]


def _build_tool(name: str, settings: "ToolSettings") -> "Tool":
    from trimtab.engine.errors import SettingsError
    from trimtab.engine.tools import tool_catalogue

    try:
        return tool_catalogue.build(name, settings)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{name}: {error.name} is not installed; pip install 'trimtab[{settings.kind}]'"
        ) from None


async def _check_tools(tools: "list[tuple[str, Tool]]", seconds: float) -> list[TargetReport]:
    """Read every target twice, all targets at the same time."""
    from trimtab.engine.cli.progress import show_progress

    title = "checking " + ", ".join(tool.name for _, tool in tools)
    try:
        with show_progress(title, seconds):
            checks = [
                _check_within_timeout(kind, tool, target, seconds)
                for kind, tool in tools
                for target in tool.targets
            ]
            return list(await asyncio.gather(*checks))
    finally:
        for _, tool in tools:
            await tool.close()


async def _check_within_timeout(kind: str, tool: "Tool", target: str, seconds: float) -> TargetReport:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _check_target(kind, tool, target, seconds)
    except TimeoutError:
        return TargetReport(tool.name, target, problem=f"{target} did not answer within {TIMEOUT_S:g} s")


async def _check_target(kind: str, tool: "Tool", target: str, seconds: float) -> TargetReport:
    from trimtab.engine.errors import EngineError
    from trimtab.engine.recommendations.misconfigurations import all_findings
    from trimtab.engine.recommendations.one_off_check import TargetReadings
    from trimtab.engine.recommendations.target_facts import TargetFacts

    try:
        earlier = await tool.metrics(target)
        await asyncio.sleep(seconds)
        now = await tool.metrics(target)
        knobs = {knob.name: (knob, await _read_knob(tool, target, knob)) for knob in await tool.knobs(target)}
        actions = {action.name: action for action in await tool.actions(target)}
    except EngineError as error:
        return TargetReport(tool.name, target, problem=str(error))
    facts = TargetFacts(tool.name, kind, target, now, knobs, actions, writable=False)
    findings = tuple(all_findings(TargetReadings(facts, earlier, seconds)))
    commands = tuple(
        tool.command(target, finding.remedy.subject, finding.remedy.after) if finding.remedy else ""
        for finding in findings
    )
    return TargetReport(tool.name, target, findings, commands=commands)


async def _read_knob(tool: "Tool", target: str, knob: "Knob") -> "KnobReading | None":
    """Return the value of a knob; None = this server does not have it."""
    from trimtab.engine.errors import NotFoundError

    try:
        return await tool.read(target, knob.name)
    except NotFoundError:
        return None


def _report_rows(report: TargetReport) -> list[dict[str, object]]:
    return [
        {
            "tool": report.tool, "target": report.target, "finding": finding.title,
            "evidence": list(finding.evidence), "advice": finding.advice,
            "change": finding.remedy.title if finding.remedy else None, "command": command or None,
        }
        for finding, command in zip(report.findings, report.commands, strict=True)
    ]  # fmt: skip
