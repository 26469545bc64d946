"""HTTP servers in the event loop of a test: a real uvicorn, and a raw server with a fixed answer."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import uvicorn
from starlette.types import ASGIApp


class _ServerWithoutSignals(uvicorn.Server):
    """uvicorn server that leaves the signal handlers of the test run alone."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def serve_app(app: ASGIApp, lifespan: str = "off") -> AsyncIterator[str]:
    """Serve an application on loopback and return its base URL without trailing slash."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", lifespan=lifespan, ws="none", access_log=False)
        server = _ServerWithoutSignals(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class RawServer:
    """Server that sends fixed bytes after each request and records the requests.

    answer : bytes sent before the connection closes; None = no answer at all
    drip_s : seconds between two bytes; 0 = all at once
    """

    def __init__(self, answer: bytes | None = None, drip_s: float = 0.0) -> None:
        self.answer = answer
        self.drip_s = drip_s
        self.requests: list[bytes] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(v) for k, _, v in _headers(head) if k == b"content-length"), 0)
        self.requests.append(head + await reader.readexactly(length))
        if self.answer is None:
            await reader.read()
            return
        for at in range(0, len(self.answer), 1 if self.drip_s else len(self.answer) or 1):
            writer.write(self.answer[at : at + 1] if self.drip_s else self.answer)
            await writer.drain()
            await asyncio.sleep(self.drip_s)


def _headers(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.lower().partition(b": ") for line in head.split(b"\r\n")[1:]]


@contextlib.asynccontextmanager
async def start_raw_server(
    answer: bytes | None = None, drip_s: float = 0.0, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Start a raw server on loopback; with TLS when a context is given."""
    made, tasks = RawServer(answer, drip_s), set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await made.handle(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    made.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http_response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete HTTP/1.1 response."""
    named = {"content-length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status} X\r\n{lines}connection: close\r\n\r\n".encode() + body
