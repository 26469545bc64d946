"""`trimtab grant TOOL`: how to make the least privileged account that a tool needs."""

from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.options import ConfigFile, find_config_file

if TYPE_CHECKING:
    from trimtab.engine.settings.tools import ToolSettings


def grant(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Its name in the settings, or a kind.")],
    config: ConfigFile = None,
) -> None:
    """Print the least privileged account of a tool, as text to run; nothing is connected to.

    Raises NotFoundError for a name that is neither in the settings nor a kind.
    """
    import os

    from trimtab.engine.settings.settings_file import load_settings
    from trimtab.engine.tools import tool_catalogue

    settings = load_settings(find_config_file(config), os.environ)
    typer.echo(tool_catalogue.build(tool, _tool_settings(tool, settings.tools)).grant(), nl=False)


def _tool_settings(name: str, configured: "dict[str, ToolSettings]") -> "ToolSettings":
    """The settings of a tool; of a kind that is not configured its defaults."""
    from pydantic import ValidationError

    from trimtab.engine.errors import NotFoundError
    from trimtab.engine.settings.tools import tool_kinds, tool_settings_class

    if name in configured:
        return configured[name]
    found = tool_settings_class(name)
    if found is None:
        known = ", ".join(sorted({*configured, *tool_kinds()}))
        raise NotFoundError(f"no tool is called {name!r}; there are: {known}")
    try:
        return found(kind=name)
    except ValidationError:
        raise NotFoundError(
            f"{name} is not configured, and what it may do depends on its settings: write tools.{name} first"
        ) from None
