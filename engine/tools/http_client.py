"""HTTP client of the tools: one request with a total deadline, and the errors that a reply means."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson

from trimtab.engine.errors import SettingsError, ToolError, ToolUncertainError
from trimtab.engine.net.addresses import Endpoint, PinnedHost
from trimtab.engine.net.credentials import Credentials
from trimtab.engine.net.tls import tls_context
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.service_tools import HttpServiceTool, WebhookTool
from trimtab.engine.tools.server_access import DeniedError

MAX_BODY_BYTES = 4 * 2**20
_MAX_EXCERPT_CHARS = 300
TraceCallback = Callable[[str, dict[str, Any]], Awaitable[None]]
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "trimtab"}


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete HTTP response."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Return the parsed body. Raises ValueError when it is not valid JSON."""
        return orjson.loads(self.body)

    def summary(self) -> str:
        """Return a short text for people: the `detail` of an RFC 9457 problem, else the start of the body."""
        try:
            text = self.json()["detail"]
        except (ValueError, KeyError, TypeError):
            text = self.body[:_MAX_EXCERPT_CHARS].decode(errors="replace").strip()
        return redact_text(str(text))[:_MAX_EXCERPT_CHARS]


class HttpClient:
    """Client of one configured server: checked address, no redirects, no proxies, no connection reuse.

    Each request opens a new connection, because a reused one that the server has just closed would leave
    a change without an answer.
    """

    def __init__(self, name: str, settings: HttpServiceTool | WebhookTool) -> None:
        self._name = name
        self._settings = settings
        self._target = Endpoint.parse(f"tools.{name}.url", settings.url)
        self._pinned = PinnedHost(self._target.host, self._target.port)
        self._credentials = Credentials(settings, f"tools.{name}")
        self._client: httpx.AsyncClient | None = None

    async def request(
        self, method: str, path: str | None, *, timeout_s: float, body: bytes = b"", mutates: bool = False,
        headers: dict[str, str] | None = None,
    ) -> HttpReply:  # fmt: skip
        """Send one request and return the complete reply, whatever its status.

        path      : relative to the configured URL; None = the configured URL itself
        timeout_s : total seconds, from resolving the name to the last byte
        mutates   : whether the request changes something

        Raises ToolError when there is no complete reply, ToolUncertainError when a mutating request was sent.
        """
        sent = False

        async def trace(event: str, _: dict[str, Any]) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, path, body, headers or {}, trace)
        except TimeoutError:
            why = f"gave no complete answer within {timeout_s:g} s; is it overloaded?"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, SettingsError) as error:
            text = str(error) or type(error).__name__
            why = f"gave no complete answer: {text}" if sent else f"could not be reached: {text}"
        raise self.make_error(method, path, redact_text(why), uncertain=sent and mutates)

    async def _exchange(
        self, method: str, path: str | None, body: bytes, headers: dict[str, str], trace: TraceCallback
    ) -> HttpReply:
        if self._client is None:
            self._client = await asyncio.to_thread(self._make_client)
        address = await self._pinned.resolve_async()
        secret = await asyncio.to_thread(self._credentials.headers)
        ours = {**_HEADERS, **headers, **secret, "Host": self._target.host_header}
        extensions = {"sni_hostname": self._target.host, "trace": trace}
        url = self._target_at(path).url_at(address)
        try:
            async with self._client.stream(
                method, url, content=body, headers=ours, extensions=extensions
            ) as answer:
                return HttpReply(answer.status_code, answer.headers, await _read_body(answer))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self._pinned.discard(address)
            raise

    def _make_client(self) -> httpx.AsyncClient:
        https = self._target.scheme == "https"
        verify = tls_context(self._settings.tls, f"tools.{self._name}.tls") if https else False
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=0)
        return httpx.AsyncClient(
            verify=verify, follow_redirects=False, trust_env=False, timeout=None, limits=limits  # noqa: S113 - `request` has a total deadline
        )  # fmt: skip

    def _target_at(self, path: str | None) -> Endpoint:
        full_path = self._target.path if path is None else f"{self._target.path.rstrip('/')}/{path}"
        return replace(self._target, path=full_path)

    def make_error(self, method: str, path: str | None, why: str, *, uncertain: bool = False) -> ToolError:
        """Return the error for a failed request; it names the tool and the request and holds no secret."""
        what = f"{self._name}: {method} {self._target_at(path).path} at {self._target.host_header} {why}"
        if uncertain:
            return ToolUncertainError(f"{what}; it may have taken effect, so it is not sent again")
        return ToolError(what)

    def raise_for_status(
        self, method: str, path: str | None, reply: HttpReply, *, mutates: bool = False
    ) -> None:
        """Raise DeniedError, ToolUncertainError or ToolError unless the status is 2xx."""
        status = reply.status
        if 200 <= status < 300:
            return
        if status in {401, 403}:
            raise DeniedError(
                f"{self._name} denies access (HTTP {status}); check tools.{self._name}.bearer_token_file"
            )
        if 300 <= status < 400:
            location = redact_text(reply.headers.get("location", ""))[:_MAX_EXCERPT_CHARS]
            why = f"redirects to {location!r}; write the final address into tools.{self._name}.url"
            raise self.make_error(method, path, why)
        raise self.make_error(
            method, path, f"answers HTTP {status}: {reply.summary()}", uncertain=mutates and status >= 500
        )

    async def close(self) -> None:
        """Close the client's connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def _read_body(answer: httpx.Response) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ValueError("the body is compressed although identity encoding was requested")
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"the body is over {MAX_BODY_BYTES // 2**20} MB")
    return bytes(body)
