"""API library: discovery, metadata and history through prometheus-api-client, called in threads.

The library has no total deadline, drops `warnings`, follows redirects and reads responses of any size. So
it uses a session of ours, which checks each response like the live client. Import this module only when a
Prometheus is configured.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter

from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.prometheus.live_client import (
    MAX_BODY_BYTES,
    PrometheusCredentials,
    ServerRoute,
    base_url,
    body_too_large_error,
    client_tls_context,
    common_headers,
    parse_answer,
    raise_for_status,
)
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata
from trimtab.engine.sources.rates import NS

_CHUNK_BYTES = 2**18


class _CheckedResponse:
    """Response that the library reads; its content was checked before."""

    status_code = 200
    content = b""

    def __init__(self, data: object) -> None:
        self._data = data

    def json(self) -> dict[str, object]:
        return {"data": self._data}


class _TlsAdapter(HTTPAdapter):
    """Adapter with our TLS context and the server's name, whatever address is connected to."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._tls: dict[str, Any] = {"ssl_context": context, "server_hostname": name}
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:  # noqa: ANN401 - as urllib3 takes them
        """Use our context for every connection."""
        super().init_poolmanager(connections, maxsize, block, **more, **self._tls)

    def build_connection_pool_key_attributes(self, request: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401 - requests' own
        """Return the pool key without TLS settings, which our context holds."""
        return super().build_connection_pool_key_attributes(request, verify=True)[0], {}

    def cert_verify(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as above
        """Do nothing: the context verifies the certificate."""


class _CheckedSession(requests.Session):
    """Session whose responses are complete or raise SourceError. deadline_s : on the monotonic clock."""

    def __init__(self, settings: Prometheus, credentials: PrometheusCredentials, route: ServerRoute) -> None:
        super().__init__()
        self.trust_env = False
        self.server = route.server
        self.route = route
        self.credentials = credentials
        self.deadline_s = 0.0
        context = client_tls_context(settings)
        if settings.tls.insecure_skip_verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user asked for it
        self._adapter = HTTPAdapter() if context is None else _TlsAdapter(context, route.target.host)

    def get_adapter(self, url: str) -> Any:  # noqa: ANN401, ARG002 - as requests has it
        """Return our adapter for every URL; the library mounts its own, which ignores our context."""
        return self._adapter

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._adapter.close()

    def request(self, method: str, url: str, **sent: Any) -> Any:  # type: ignore[override]  # noqa: ANN401 - see _Whole
        """Send the request to one checked address after the other, and read the response up to the limits."""
        if method == "POST":
            sent["data"] = sent.pop("params", None)
        sent |= {"allow_redirects": False, "stream": True}
        while True:
            address = self.route.resolve_blocking()
            try:
                return self._send(method, self.route.url_at(address) + url.removeprefix(self.server), sent)
            except requests.ConnectionError as error:
                if isinstance(error, requests.exceptions.SSLError) or not self.route.mark_failed(address):
                    raise

    def _send(self, method: str, url: str, sent: dict[str, Any]) -> _CheckedResponse:
        names = {"Host": self.route.target.host_header}
        sent["headers"] = self.credentials.headers() | common_headers(self.server) | names
        sent["timeout"] = max(self.deadline_s - time.monotonic(), 0.001)
        with super().request(method, url, **sent) as answer:
            body = self._read_body(answer)
            raise_for_status(self.server, answer.status_code, answer.headers.get("location", ""), body)
        return _CheckedResponse(parse_answer(self.server, body))

    def _read_body(self, answer: requests.Response) -> bytes:
        body = bytearray()
        for piece in answer.iter_content(_CHUNK_BYTES):
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise body_too_large_error(self.server)
            if time.monotonic() > self.deadline_s:
                raise requests.Timeout("the answer took too long")
        return bytes(body)


class ApiLibrary(AbstractContextManager["ApiLibrary"]):
    """API of a Prometheus through prometheus-api-client. Calls block up to timeout_s and raise SourceError.

    Not thread-safe: use an instance in one thread at a time.
    """

    def __init__(
        self,
        settings: Prometheus,
        credentials: PrometheusCredentials,
        timeout_s: float,
        route: ServerRoute | None = None,
    ) -> None:
        route = route or ServerRoute(base_url(settings))
        self.server = route.server
        self._timeout_s = timeout_s
        self._session = _CheckedSession(settings, credentials, route)
        self._connect = PrometheusConnect(self.server, session=self._session, retry=0, method="POST")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connect.close()

    def count_series(self, selection: str) -> list[tuple[str, str, int]]:
        """Return (metric, job, number of series) of the current result of `selection`."""
        found = self._call(lambda: self._connect.custom_query(f"count by (__name__, job) ({selection})"))
        return [
            (row["metric"].get("__name__", ""), row["metric"].get("job", ""), int(float(row["value"][1])))
            for row in found
        ]

    def metadata(self) -> dict[str, MetricMetadata]:
        """Return the metadata of the scraped metrics; when targets disagree, that of the first."""
        found: dict[str, MetricMetadata] = {}
        for row in self._call(lambda: self._connect.get_metric_metadata("")):
            found.setdefault(row["metric_name"], MetricMetadata(row["type"], row["help"], row["unit"]))
        return found

    def targets(self) -> list[Mapping[str, Any]]:
        """Return the active scrape targets."""
        found: list[Mapping[str, Any]] = self._call(
            lambda: self._connect.get_targets(state="active")["activeTargets"]
        )
        return found

    def query_range(self, expr: str, start: int, end: int, step_s: float) -> list[Mapping[str, Any]]:
        """Return values at start, start + step_s ... end, both included; int64 ns, whole seconds."""
        first, last = (datetime.fromtimestamp(t / NS, UTC) for t in (start, end))
        found: list[Mapping[str, Any]] = self._call(
            lambda: self._connect.custom_query_range(expr, first, last, f"{step_s:g}")
        )
        return found

    def query_at(self, expr: str, at: int) -> list[Mapping[str, Any]]:
        """Return the result of an instant query at a time, int64 ns."""
        found: list[Mapping[str, Any]] = self._call(
            lambda: self._connect.custom_query(expr, params={"time": f"{at / NS:.3f}"})
        )
        return found

    def _call(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
        self._session.deadline_s = time.monotonic() + self._timeout_s
        try:
            return ask()
        except requests.Timeout as error:
            raise SourceError(f"{self.server} did not answer within {self._timeout_s:g} s") from error
        except (requests.RequestException, OSError) as error:
            raise SourceError(
                f"cannot reach {self.server}: {type(error).__name__}; check that it runs and "
                "sources.prometheus.url"
            ) from error
        except (PrometheusApiClientException, KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self.server}: the answer does not follow the Prometheus API") from error
