"""Outbound HTTP POSTs to one receiver: pinned address, no redirects, no proxy from the environment."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from trimtab.engine.net.addresses import Endpoint, PinnedHost
from trimtab.engine.net.credentials import Credentials
from trimtab.engine.net.tls import tls_context
from trimtab.engine.redaction import HIDDEN, redact_text
from trimtab.engine.settings import Writer
from trimtab.engine.settings.notify import HttpReceiver

EXCERPT_CHARACTERS = 500
MAX_RESPONSE_BYTES = 8192
"""Maximum bytes read of a response body: long enough that an echoed secret is read whole and redacted."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Response of a receiver. `excerpt` is the beginning of the body with our credentials redacted."""

    status: int
    retry_after: str
    excerpt: str


class OutboundHttp:
    """Sends POSTs to one endpoint, at an address that was checked.

    endpoint   : the URL
    settings   : section with credentials, TLS and total timeout (seconds)
    name       : name of the section for messages, such as "writer"
    keep_alive : reuse connections; turn off for rare posts, when the receiver would have closed them
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Writer | HttpReceiver,
        name: str = "writer",
        *,
        keep_alive: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.settings = settings
        self.name = name
        self.keep_alive = keep_alive
        self._pinned = PinnedHost(endpoint.host, endpoint.port)
        self._credentials = Credentials(settings, name)
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: bytes, headers: dict[str, str]) -> HttpResponse:
        """Send a POST and return the response.

        Raises httpx.HTTPError, OSError or TimeoutError if there is no response within the total timeout,
        RefusedAddressError if the host resolves to a refused address.
        """
        async with asyncio.timeout(self.settings.timeout):
            if self._client is None:
                self._client = await asyncio.to_thread(self._new_client)
            address = await self._pinned.resolve_async()
            credentials = await asyncio.to_thread(self._credentials.headers)
            all_headers = {**headers, **credentials, "Host": self.endpoint.host_header}
            try:
                response = await self._exchange(self._client, address, body, all_headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._pinned.discard(address)
                raise
            return replace(
                response, excerpt=_redact_credentials(credentials, response.excerpt)[:EXCERPT_CHARACTERS]
            )

    async def check_connection(self) -> None:
        """Read the credentials and connect (TLS for https) without sending anything. Raises as `post`."""
        async with asyncio.timeout(self.settings.timeout):
            https = self.endpoint.scheme == "https"
            tls = (
                await asyncio.to_thread(tls_context, self.settings.tls, f"{self.name}.tls") if https else None
            )
            await asyncio.to_thread(self._credentials.headers)
            name = self.endpoint.host if https else None
            address = await self._pinned.resolve_async()
            _, writer = await asyncio.open_connection(
                address, self.endpoint.port, ssl=tls, server_hostname=name
            )
            writer.close()
            await writer.wait_closed()

    async def _exchange(
        self, client: httpx.AsyncClient, address: str, body: bytes, headers: dict[str, str]
    ) -> HttpResponse:
        url, tls_name = self.endpoint.url_at(address), {"sni_hostname": self.endpoint.host}
        async with client.stream("POST", url, content=body, headers=headers, extensions=tls_name) as response:
            excerpt = bytearray()
            async for part in response.aiter_bytes(MAX_RESPONSE_BYTES):
                excerpt += part
                if len(excerpt) >= MAX_RESPONSE_BYTES:
                    break
            text = bytes(excerpt[:MAX_RESPONSE_BYTES]).decode("utf-8", "replace").strip()
            return HttpResponse(response.status_code, response.headers.get("retry-after", ""), text)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        https = self.endpoint.scheme == "https"
        verify = tls_context(self.settings.tls, f"{self.name}.tls") if https else False
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20 if self.keep_alive else 0)
        return httpx.AsyncClient(
            verify=verify,
            follow_redirects=False,
            trust_env=False,
            timeout=self.settings.timeout,
            limits=limits,
        )


def _redact_credentials(headers: Mapping[str, str], text: str) -> str:
    """Return the text with the values of these headers, and their parts, redacted."""
    for value in headers.values():
        scheme, _, credential = value.rpartition(" ")
        parts = [value, credential]
        if scheme == "Basic":
            parts.append(base64.b64decode(credential).decode().partition(":")[2])
        for part in filter(None, parts):
            text = text.replace(part, HIDDEN)
    return redact_text(text)


def parse_retry_after_s(header: str, now_ns: int) -> float:
    """Return the seconds of a Retry-After header (a number or an HTTP date); 0 if it is absent or invalid.

    >>> [parse_retry_after_s(header, 0) for header in ("7", "Thu, 01 Jan 1970 00:01:00 GMT", "soon")]
    [7.0, 60.0, 0.0]
    """
    if header.isdigit():
        return float(header)
    try:
        retry_at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    return max(0.0, (retry_at.replace(tzinfo=retry_at.tzinfo or UTC) - now).total_seconds())
