"""Tool catalogue: kind -> class. A class is imported when it is first used.

To add a kind, add a module here, a line below, and its settings in `trimtab.engine.settings.tools`. Other
packages use entry points in the groups `trimtab.tools` and `trimtab.tool_settings`; a built-in kind wins.
"""

from importlib import import_module
from importlib.metadata import entry_points

from trimtab.engine.errors import NotFoundError
from trimtab.engine.ports import Tool
from trimtab.engine.settings.tools import ToolSettings

ENTRY_POINT_GROUP = "trimtab.tools"

TOOLS = {
    "http_service": "trimtab.engine.tools.http_service.http_service_tool:HttpService",
    "pm2": "trimtab.engine.tools.pm2.pm2_tool:Pm2",
    "postgresql": "trimtab.engine.tools.postgresql.postgresql_tool:Postgresql",
    "process": "trimtab.engine.tools.process.process_tool:Process",
    "redis": "trimtab.engine.tools.redis.redis_tool:Redis",
    "webhook": "trimtab.engine.tools.webhook_tool:Webhook",
}


def tool_kinds() -> list[str]:
    """Return every kind of tool, sorted.

    >>> "redis" in tool_kinds()
    True
    """
    return sorted({*TOOLS, *entry_points(group=ENTRY_POINT_GROUP).names})


def tool_class(kind: str) -> type:
    """Return the class of a kind; it is called with a name and settings. Raises NotFoundError.

    >>> tool_class("redis").__name__
    'Redis'
    """
    if kind in TOOLS:
        module, _, attribute = TOOLS[kind].partition(":")
        found: type = getattr(import_module(module), attribute)
        return found
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        loaded: type = point.load()
        return loaded
    raise NotFoundError(f"there is no kind of tool {kind!r}; known: {', '.join(tool_kinds())}")


def build(name: str, settings: ToolSettings) -> Tool:
    """Return a tool that is not connected. Raises NotFoundError, ImportError when its library is missing."""
    tool: Tool = tool_class(settings.kind)(name, settings)
    return tool
