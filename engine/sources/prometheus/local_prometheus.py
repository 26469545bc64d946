"""Detection of a Prometheus on this machine. Imports nothing heavy: every `trimtab up` runs it."""

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

LOCAL_URL = "http://localhost:9090"
_MAX_ANSWER_BYTES = 65_536


async def find_local_prometheus(url: str = LOCAL_URL, timeout_s: float = 0.8) -> str | None:
    """Return the URL if a Prometheus answers there within timeout_s seconds, else None.

    A server counts only when it reports a version on /api/v1/status/buildinfo; others get no further request.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return url if _is_prometheus(await _get(url, "/api/v1/status/buildinfo")) else None
    except (OSError, TimeoutError, asyncio.LimitOverrunError):
        return None


async def _get(url: str, path: str) -> bytes:
    """Return the response to a GET, head and body, up to a size limit."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        answer = bytearray()
        while len(answer) < _MAX_ANSWER_BYTES and (piece := await reader.read(4096)):
            answer += piece
        return bytes(answer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _is_prometheus(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        parsed = json.loads(body)
        succeeded = head.split()[1] == b"200" and parsed["status"] == "success"
        return succeeded and bool(parsed["data"]["version"])
    except (ValueError, KeyError, TypeError, IndexError):
        return False
