"""Where a configured host leads, before anything is sent to it."""

import asyncio
import socket

from trimtab.engine.addresses import is_refused
from trimtab.engine.errors import ToolError


async def address_of(tool: str, host: str, port: int) -> str:
    """An address of the host. Raises ToolError where it has none, or a link-local or metadata one."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ToolError(
            f"{tool}: {host} has no address: {error.strerror or error}; check tools.{tool}.url"
        ) from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if is_refused(address):
            raise ToolError(
                f"{tool}: {host} leads to {address}, a link-local or metadata address, which is refused; "
                f"write another host into tools.{tool}.url"
            )
    return addresses[0]
