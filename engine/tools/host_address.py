"""Where a configured host leads, before anything is sent to it."""

from trimtab.engine.errors import ToolError
from trimtab.engine.net.addresses import PinnedHost, RefusedAddressError


async def resolve_host(tool: str, host: str, port: int) -> str:
    """An address of the host. Raises ToolError where it has none, or a link-local or metadata one."""
    try:
        return await PinnedHost(host, port).resolve_async()
    except RefusedAddressError as error:
        raise ToolError(f"{tool}: {error}, in tools.{tool}") from None
    except OSError as error:
        raise ToolError(
            f"{tool}: {host} has no address: {error.strerror or error}; check tools.{tool}.url"
        ) from None
