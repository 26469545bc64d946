"""Access to a configured server: resolving its host, reading its password file, and being refused by it."""

from pathlib import Path

from trimtab.engine.errors import ToolError
from trimtab.engine.net.addresses import PinnedHost, RefusedAddressError


class DeniedError(ToolError):
    """The server answers but denies access: wrong credentials or missing privileges."""


class ExportOnlyError(ToolError):
    """The server does not allow changes; Trimtab only writes out the commands for them."""


async def resolve_host(tool: str, host: str, port: int) -> str:
    """Return an address of a host. Raises ToolError when it has none, or a link-local or metadata address."""
    try:
        return await PinnedHost(host, port).resolve_async()
    except RefusedAddressError as error:
        raise ToolError(f"{tool}: {error}, in tools.{tool}") from None
    except OSError as error:
        raise ToolError(
            f"{tool}: {host} has no address: {error.strerror or error}; check tools.{tool}.url"
        ) from None


def read_secret(tool: str, file: Path) -> str:
    """Return the content of a password file, stripped. Raises ToolError when it cannot be read."""
    try:
        return file.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ToolError(f"{tool}: {file} cannot be read: {why}; check tools.{tool}.password_file") from None
