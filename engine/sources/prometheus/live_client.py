"""Live client of a Prometheus: credentials, address, checks of an answer, and instant queries.

An answer counts only when it is complete: status success, no warnings, valid JSON, at most 64 MB. Anything
else raises SourceError, whose text names the server and the remedy and never contains a secret.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson

from trimtab.engine.errors import SettingsError, SourceError
from trimtab.engine.net import credentials
from trimtab.engine.net.addresses import Endpoint, PinnedHost, RefusedAddressError
from trimtab.engine.net.tls import tls_context
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.rates import NS

MAX_BODY_BYTES = 64 * 2**20
_MAX_REASON_CHARS = 300


class PrometheusCredentials:
    """Request headers from `trimtab.engine.net.credentials`. Raises SourceError when a file is missing."""

    def __init__(self, settings: Prometheus) -> None:
        self._found = credentials.Credentials(settings, "sources.prometheus")

    def __repr__(self) -> str:
        return "Credentials(hidden)"

    def headers(self) -> dict[str, str]:
        """Return Authorization and the configured headers. Raises SourceError when a file cannot be read."""
        try:
            return self._found.headers()
        except OSError as error:
            raise SourceError(str(error)) from error


def base_url(settings: Prometheus) -> str:
    """Return the URL without trailing slash and query. Raises SettingsError for an invalid URL."""
    parts = urlsplit(settings.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(
            f"sources.prometheus.url, or --prometheus, is {redact_text(settings.url)!r}; write "
            "http://host:9090 or https://host/path/prefix"
        )
    if parts.username or parts.password:
        raise SettingsError(
            "sources.prometheus.url, or --prometheus, holds a user or password; write them into "
            "sources.prometheus.basic_auth"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def client_tls_context(settings: Prometheus) -> ssl.SSLContext | None:
    """Return the TLS context, None for http. Raises SettingsError when a TLS file is invalid."""
    https = urlsplit(settings.url).scheme == "https"
    return tls_context(settings.tls, "sources.prometheus.tls") if https else None


def common_headers(server: str) -> dict[str, str]:
    """Return headers of every request; on localhost compressing an answer costs more than it saves."""
    local = urlsplit(server).hostname in {"localhost", "127.0.0.1", "::1"}
    return {"Accept-Encoding": "identity" if local else "gzip", "User-Agent": "trimtab"}


class ServerRoute:
    """Address of the server: its URL by the checked address, and its name for TLS and the Host header."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.target = Endpoint.parse("sources.prometheus.url", server)
        self._pinned = PinnedHost(self.target.host, self.target.port)

    def url_at(self, address: str) -> str:
        """Return the server's URL with an address in place of its host name."""
        return self.target.url_at(address).rstrip("/")

    def resolve_blocking(self) -> str:
        """Return an address. Blocks. Raises SourceError when there is none, or a refused one."""
        with self._source_errors():
            return self._pinned.resolve()

    async def resolve(self) -> str:
        """Return an address like `resolve_blocking`, without blocking the event loop."""
        with self._source_errors():
            return await self._pinned.resolve_async()

    def mark_failed(self, address: str) -> bool:
        """Mark an address as unreachable; return whether there is another one to try."""
        return self._pinned.discard(address)

    @contextmanager
    def _source_errors(self) -> Iterator[None]:
        try:
            yield
        except RefusedAddressError as error:
            raise SourceError(f"{error} (sources.prometheus.url)") from error
        except OSError as error:
            raise SourceError(
                f"cannot find the host of {self.server}: {_error_text(error)}; check sources.prometheus.url"
            ) from error


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A complete answer.

    data        : the field `data`
    server_time : int64 ns UTC by the server's clock, to the second; 0 = unknown
    """

    data: Any
    server_time: int = 0


def raise_for_status(server: str, status: int, location: str, body: bytes) -> None:
    """Raise SourceError unless status is 200."""
    if status == 200:
        return
    if 300 <= status < 400:
        raise SourceError(
            f"{server} redirects to {redact_text(location)[:_MAX_REASON_CHARS]!r}, which is not followed: "
            "write the final address into sources.prometheus.url"
        )
    if status in {401, 403}:
        raise SourceError(
            f"{server} denies access (HTTP {status}); check basic_auth, bearer_token, tls and headers "
            "of sources.prometheus"
        )
    if status == 404:
        raise SourceError(f"{server} has no such page (HTTP 404); check the path in sources.prometheus.url")
    try:
        reason = orjson.loads(body).get("error", "")
    except (orjson.JSONDecodeError, AttributeError):
        reason = body[:_MAX_REASON_CHARS].decode(errors="replace")
    raise SourceError(f"{server} answers HTTP {status}: {redact_text(str(reason))[:_MAX_REASON_CHARS]}")


def parse_answer(server: str, body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return the field `data` of an answer. Raises SourceError when the answer is incomplete."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(
            f"{server}: the answer is not valid JSON ({error}); is there a Prometheus at this address?"
        ) from error
    if not isinstance(parsed, dict) or parsed.get("status") != "success" or "data" not in parsed:
        reason = parsed.get("error", "") if isinstance(parsed, dict) else ""
        raise SourceError(f"{server}: no successful answer: {redact_text(str(reason))[:_MAX_REASON_CHARS]!r}")
    if parsed.get("warnings"):
        warnings = "; ".join(map(str, parsed["warnings"]))
        raise SourceError(
            f"{server} warns that its answer is incomplete, so it counts as unknown: "
            f"{redact_text(warnings)[:_MAX_REASON_CHARS]}"
        )
    return parsed["data"]


def body_too_large_error(server: str) -> SourceError:
    """Return the error for an answer above the size limit."""
    limit = MAX_BODY_BYTES // 2**20
    return SourceError(f"{server}: the answer is over {limit} MB; narrow sources.prometheus.selector")


def _error_text(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return redact_text(text)[:_MAX_REASON_CHARS]


class LiveClient:
    """HTTP client for instant queries: no redirects, no proxies; the caller sets the total deadline."""

    def __init__(
        self,
        settings: Prometheus,
        credentials: PrometheusCredentials,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.server = base_url(settings)
        self.route = ServerRoute(self.server)
        self._settings = settings
        self._credentials = credentials
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    def load_tls(self) -> None:
        """Load the TLS files. Raises SettingsError when they are invalid."""
        self._get_client()

    async def query(self, expr: str) -> ApiAnswer:
        """Run an instant query at the server's current time. Raises SourceError."""
        return await self._request("POST", "/api/v1/query", {"query": expr})

    async def get(self, path: str) -> ApiAnswer:
        """Get another page of the API. Raises SourceError."""
        return await self._request("GET", path, None)

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _get_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=client_tls_context(self._settings) or False,
                headers=common_headers(self.server),
                follow_redirects=False, trust_env=False, timeout=self._settings.timeout,
                transport=self._transport, limits=httpx.Limits(max_connections=4),
            )  # fmt: skip
        return self._client

    async def _request(self, method: str, path: str, form: dict[str, str] | None) -> ApiAnswer:
        while True:
            address = await self.route.resolve()
            try:
                return await self._request_at(address, method, path, form)
            except httpx.TimeoutException as error:
                self._has_next_address(address, error)
                raise SourceError(
                    f"{self.server} did not answer within {self._settings.timeout:g} s; is it overloaded?"
                ) from error
            except httpx.InvalidURL as error:
                raise SettingsError(f"sources.prometheus.url: {_error_text(error)}") from error
            except (httpx.HTTPError, OSError) as error:  # TLS alerts are not wrapped by httpx
                if self._has_next_address(address, error):
                    continue
                raise SourceError(
                    f"cannot reach {self.server}: {_error_text(error)}; check that it runs and "
                    "sources.prometheus.url"
                ) from error

    def _has_next_address(self, address: str, error: Exception) -> bool:
        """Return whether another address can be tried after a failed connection."""
        return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and self.route.mark_failed(
            address
        )

    async def _request_at(
        self, address: str, method: str, path: str, form: dict[str, str] | None
    ) -> ApiAnswer:
        headers = self._credentials.headers() | {"Host": self.route.target.host_header}
        url, name = self.route.url_at(address) + path, {"sni_hostname": self.route.target.host}
        async with self._get_client().stream(
            method, url, data=form, headers=headers, extensions=name
        ) as answer:
            body = await self._read_body(answer)
            raise_for_status(self.server, answer.status_code, answer.headers.get("location", ""), body)
            date = answer.headers.get("date")
        return ApiAnswer(parse_answer(self.server, body), _server_time(date))

    async def _read_body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise body_too_large_error(self.server)
        return bytes(body)


def _server_time(date: str | None) -> int:
    try:
        return int(parsedate_to_datetime(date or "").timestamp()) * NS
    except (ValueError, TypeError):
        return 0
