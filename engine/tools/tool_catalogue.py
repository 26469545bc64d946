"""Kind -> tool. A member is loaded when it is first asked for, never before.

To add one: a file here, a line below, and its settings in `trimtab.engine.settings.tools`; from a package
of your own: entry points in the groups `trimtab.tools` and `trimtab.tool_settings`. A kind of ours wins.
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
    """Every kind of tool there is, sorted.

    >>> "redis" in tool_kinds()
    True
    """
    return sorted({*TOOLS, *entry_points(group=ENTRY_POINT_GROUP).names})


def tool_class(kind: str) -> type:
    """The class behind a kind; called with a name and settings. Raises NotFoundError.

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
    raise NotFoundError(f"no kind of tool is called {kind!r}; there are: {', '.join(tool_kinds())}")


def build(name: str, settings: ToolSettings) -> Tool:
    """A tool, not yet connected. Raises NotFoundError, and ImportError where its library is not installed."""
    made: Tool = tool_class(settings.kind)(name, settings)
    return made
