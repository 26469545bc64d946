"""`trimtab grant TOOL`: prints how to create the least-privilege account of a tool."""

from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.options import ConfigFile, find_config_file

if TYPE_CHECKING:
    from trimtab.engine.settings.tools import ToolSettings


def grant(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Name of a tool in the settings, or a kind.")],
    config: ConfigFile = None,
) -> None:
    """Print the statements that create a tool's least-privilege account. Connects to nothing."""
    import os

    from trimtab.engine.settings.settings_file import load_settings
    from trimtab.engine.tools import tool_catalogue

    settings = load_settings(find_config_file(config), os.environ)
    typer.echo(tool_catalogue.build(tool, _tool_settings(tool, settings.tools)).grant(), nl=False)


def _tool_settings(name: str, configured: "dict[str, ToolSettings]") -> "ToolSettings":
    """Return the settings of a tool; the defaults of a kind that is not configured. Raises NotFoundError."""
    from pydantic import ValidationError

    from trimtab.engine.errors import NotFoundError
    from trimtab.engine.settings.tools import tool_kinds, tool_settings_class

    if name in configured:
        return configured[name]
    section = tool_settings_class(name)
    if section is None:
        known = ", ".join(sorted({*configured, *tool_kinds()}))
        raise NotFoundError(f"there is no tool {name!r}; use one of: {known}")
    try:
        return section(kind=name)
    except ValidationError:
        raise NotFoundError(
            f"{name} is not configured, and its privileges depend on its settings; add tools.{name} first"
        ) from None
