"""HTTP server of `trimtab up`: uvicorn, started and stopped by the engine."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from trimtab.engine.api.security.listen_address import base_url
from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Api

if TYPE_CHECKING:
    from fastapi import FastAPI

SHUTDOWN_TIMEOUT_S = 2
"""Seconds that open requests have to finish at shutdown."""
_BACKLOG = 2048


def bind_socket(settings: Api) -> socket.socket:
    """Return a listening socket. Raises SettingsError if the address is in use or not of this machine."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening_socket = socket.socket(family, socket.SOCK_STREAM)
    listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening_socket.bind((settings.host.strip("[]"), settings.port))
        listening_socket.listen(_BACKLOG)
    except OSError as error:
        listening_socket.close()
        raise SettingsError(_bind_error(error, settings)) from None
    listening_socket.setblocking(False)
    return listening_socket


def _bind_error(error: OSError, settings: Api) -> str:
    address = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"api.port: {address} is in use; stop the other program or choose another port (--port P)"
    if error.errno == errno.EACCES:
        return f"api.port: this user may not listen on {address}; choose a port above 1023 (--port P)"
    return f"api.host: cannot listen on {address}: {error.strerror or error}"


def browser_url(settings: Api, listening_socket: socket.socket) -> str:
    """Return the URL at which a browser on this machine reaches the API."""
    return base_url(settings, listening_socket.getsockname()[1])


class HttpServer(uvicorn.Server):
    """uvicorn server without its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signal handling to the engine."""
        yield


def make_server(app: "FastAPI", settings: Api) -> HttpServer:
    """Return a server for the application; with TLS if the settings name a certificate."""
    cert, key = (path and path.expanduser() for path in (settings.tls_cert_file, settings.tls_key_file))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, ws="none", loop="asyncio",
        proxy_headers=settings.behind_proxy, forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S, ssl_certfile=cert, ssl_keyfile=key,
    )  # fmt: skip
    return HttpServer(config)


async def wait_until_started(server: HttpServer, server_task: "asyncio.Task[None]") -> None:
    """Return when the server accepts requests. Raises the error that kept it from starting."""
    while not server.started:
        if server_task.done():
            server_task.result()
            raise SettingsError("the HTTP server ended before it accepted requests; see the log for details")
        await asyncio.sleep(0.01)
