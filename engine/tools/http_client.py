"""One request to a configured HTTP server, and what its answer means for a tool."""

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
from trimtab.engine.tools.refusals import DeniedError

MAX_BODY_BYTES = 4 * 2**20
_MAX_EXCERPT_CHARS = 300
TraceCallback = Callable[[str, dict[str, Any]], Awaitable[None]]
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "trimtab"}


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The body. Raises ValueError where it is no whole JSON."""
        return orjson.loads(self.body)

    def summary(self) -> str:
        """What it says for people: the detail of a problem, or its beginning."""
        try:
            told = self.json()["detail"]
        except (ValueError, KeyError, TypeError):
            told = self.body[:_MAX_EXCERPT_CHARS].decode(errors="replace").strip()
        return redact_text(str(told))[:_MAX_EXCERPT_CHARS]


class HttpClient:
    """Asks one server: by an address that was checked, without redirects, proxies and reused connections.

    A connection that the server has just closed would leave a change without an answer, so each request
    takes a new one.
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
        """The whole answer, whatever its status.

        path    : below the URL of the settings; None = that URL as it is written
        limit_s : in total, from resolving the name to the last byte

        Raises ToolError where there is none; ToolUncertainError where something that `changes` was sent.
        """
        sent = False

        async def trace(event: str, _: dict[str, Any]) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, path, body, headers or {}, trace)
        except TimeoutError:
            why = f"gave no whole answer within {timeout_s:g} s; is it overloaded?"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, SettingsError) as error:
            told = str(error) or type(error).__name__
            why = f"gave no whole answer: {told}" if sent else f"could not be asked: {told}"
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
            verify=verify, follow_redirects=False, trust_env=False, timeout=None, limits=limits  # noqa: S113 - `ask` has a total deadline
        )  # fmt: skip

    def _target_at(self, path: str | None) -> Endpoint:
        whole = self._target.path if path is None else f"{self._target.path.rstrip('/')}/{path}"
        return replace(self._target, path=whole)

    def make_error(self, method: str, path: str | None, why: str, *, uncertain: bool = False) -> ToolError:
        """What to raise: names the tool and the request, never a secret."""
        what = f"{self._name}: {method} {self._target_at(path).path} at {self._target.host_header} {why}"
        if uncertain:
            return ToolUncertainError(f"{what}; it may have been done all the same, so it is not sent again")
        return ToolError(what)

    def raise_for_status(
        self, method: str, path: str | None, reply: HttpReply, *, mutates: bool = False
    ) -> None:
        """Raise DeniedError, ToolUncertainError or ToolError unless it is a success."""
        status = reply.status
        if 200 <= status < 300:
            return
        if status in {401, 403}:
            raise DeniedError(
                f"{self._name} refuses us (HTTP {status}); check tools.{self._name}.bearer_token_file"
            )
        if 300 <= status < 400:
            where = redact_text(reply.headers.get("location", ""))[:_MAX_EXCERPT_CHARS]
            why = f"redirects to {where!r}; write the final address into tools.{self._name}.url"
            raise self.make_error(method, path, why)
        raise self.make_error(
            method, path, f"answers HTTP {status}: {reply.summary()}", uncertain=mutates and status >= 500
        )

    async def close(self) -> None:
        """Let go of what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def _read_body(answer: httpx.Response) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ValueError("it is packed, though we asked for it plain")
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"it is over {MAX_BODY_BYTES // 2**20} MB")
    return bytes(body)
