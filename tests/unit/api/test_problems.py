"""Error responses, request logging and security headers."""

import asyncio
import re

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import anomaly_of
from trimtab.engine.api import request_logging
from trimtab.engine.api.security import request_guard
from trimtab.engine.api.security.access_table import BODY_LIMIT_BYTES
from trimtab.engine.errors import (
    ConflictError,
    EngineError,
    InputError,
    LockedError,
    NotFoundError,
    SourceError,
    StoreError,
)
from trimtab.engine.types import SeriesKey
from trimtab.models.errors import ShapeError

ANOMALY = "01JGFJJZ000000000000000000"
FEEDBACK = f"/api/anomalies/{ANOMALY}/feedback"
SECRET = "swordfish-swordfish"


@pytest.fixture
def api():
    """Return an API with one anomaly."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


@pytest.fixture
def lines(monkeypatch):
    """Return the log entries of the API."""
    capture = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, capture])
    monkeypatch.setattr(request_logging, "log", logger)
    return capture.entries


def fail_with(api, monkeypatch, error):
    """Make the status route raise this error."""

    def ready():
        raise error

    monkeypatch.setattr(api.live, "readiness", ready)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no series x"), 404),
        (ConflictError("x exists"), 409),
        (InputError("line 3 is no number"), 422),
        (StoreError("the disk is full"), 503),
        (LockedError("another engine works here"), 503),
        (SourceError("prometheus does not answer"), 503),
    ],
)
async def test_engine_errors_have_their_message(api, monkeypatch, error, status):
    """An error with a message for users is a problem with that message and its status."""
    fail_with(api, monkeypatch, error)
    assert_problem(await api.key_client("read").get("/api/status"), status, str(error))


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), ShapeError(SECRET), EngineError(SECRET), KeyError(SECRET)]
)
async def test_internal_errors_show_only_a_trace_id(api, monkeypatch, lines, error):
    """An internal error gets 500 without message or traceback; the log has both under the trace id."""
    fail_with(api, monkeypatch, error)
    response = await api.key_client("read").get("/api/status")
    body = assert_problem(response, 500, response.headers["x-trace-id"])
    assert SECRET not in response.text
    assert "Traceback" not in response.text
    fault, line = lines
    assert fault["trace_id"] == line["trace_id"] == body["trace_id"]
    assert SECRET in fault["traceback"]
    assert line["status"] == 500


async def test_error_messages_are_redacted(api, monkeypatch):
    """A password in a URL is redacted from an error message."""
    fail_with(api, monkeypatch, StoreError(f"postgresql://trimtab:{SECRET}@db:5432/x does not answer"))
    response = await api.key_client("read").get("/api/status")
    assert_problem(response, 503, "db:5432/x does not answer")
    assert SECRET not in response.text


async def test_a_logged_traceback_holds_no_local_variables(api, monkeypatch, lines):
    """A logged traceback has no values of local variables, such as the request's key."""
    fail_with(api, monkeypatch, ValueError("oops"))
    secret = api.create_key("read")
    await api.anonymous_client(headers={"Authorization": f"Bearer {secret}"}).get("/api/status")
    assert secret not in repr(lines)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/nothing", 404, "/api-docs"),
        ("GET", "/nothing.js", 404, "nothing.js"),
        ("PUT", "/api/status", 405, "GET"),
        ("POST", "/", 405, "HEAD"),
    ],
)
async def test_unknown_paths_and_methods_are_problems(api, method, path, status, words):
    """Unknown paths and wrong methods get a problem+json."""
    assert_problem(await api.key_client("admin").request(method, path), status, words)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b'{"verdict": NaN}'])
async def test_broken_json_is_a_problem(api, content):
    """A body that is not JSON is refused."""
    headers = {"Content-Type": "application/json"}
    response = await api.key_client("propose").post(FEEDBACK, content=content, headers=headers)
    assert_problem(response, 400 if content == b"\xff" else 422)


async def test_a_body_of_another_type_is_refused(api):
    """A body of another content type, such as a cross-site form, is not parsed as JSON."""
    response = await api.key_client("propose").post(FEEDBACK, content=b'{"verdict":"right"}',
                                                headers={"Content-Type": "text/plain"})  # fmt: skip
    assert_problem(response, 422)


def body_chunks(total, size=100_000):
    """Return a chunked body of `total` bytes, without a Content-Length."""

    async def stream():
        for begin in range(0, total, size):
            yield b"x" * min(size, total - begin)

    return stream()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_one_megabyte_is_refused(api, chunked):
    """A body over the limit gets 413, with and without a Content-Length; a body at the limit is read."""
    client = api.key_client("propose")
    for size, status in ((BODY_LIMIT_BYTES, 422), (BODY_LIMIT_BYTES + 1, 413)):
        content = body_chunks(size) if chunked else b"x" * size
        headers = {"Content-Type": "application/json"}
        response = await client.post(FEEDBACK, content=content, headers=headers)
        assert_problem(response, status)


async def test_incomplete_body_times_out(api, monkeypatch):
    """A client that stops sending its body gets 408."""
    monkeypatch.setattr(request_guard, "BODY_TIMEOUT_S", 0.05)

    async def partial_body():
        yield b"{"
        await asyncio.Event().wait()

    response = await api.key_client("propose").post(FEEDBACK, content=partial_body())
    assert_problem(response, 408)


async def test_a_disconnected_client_is_not_an_error(api, lines):
    """A client that disconnects while sending is logged with status 499."""
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    secret = api.create_key("propose")
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())]
    scope = {
        "type": "http", "method": "POST", "path": FEEDBACK, "headers": headers, "query_string": b"",
        "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http", "root_path": "",
        "http_version": "1.1", "raw_path": FEEDBACK.encode(), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await api.app(scope, receive, send)
    assert sent == []
    assert [line["status"] for line in lines] == [499]


async def test_each_request_is_logged_once_without_secrets(api, lines):
    """A request log has method, route, status, duration, trace id and key prefix, but no secret or query."""
    secret = api.create_key("read", name="laptop")
    client = api.anonymous_client(
        headers={"Authorization": f"Bearer {secret}", "Cookie": f"trimtab_session={SECRET}"}
    )
    await client.get(f"/api/series/{'a' * 32}/scores?since={SECRET}")
    await api.anonymous_client().get(f"/login?token={SECRET}")
    await api.anonymous_client().post("/api/session", json={"key": SECRET})
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/api/series/{series_id}/scores", 422),
        ("GET", "/login", 401),
        ("POST", "/api/session", 401),
    ]
    assert lines[0]["key_prefix"] == secret[:10]
    assert all(line["duration_s"] >= 0 and re.fullmatch("[0-9a-f]{32}", line["trace_id"]) for line in lines)
    assert SECRET not in repr(lines)
    assert secret not in repr(lines)


async def test_requests_are_counted_by_template(api):
    """Metrics use the route template and a known method, never text from the client."""
    client = api.key_client("read")
    await client.get(f"/api/series/{'a' * 32}")
    await client.request("BREW", "/api/status")
    await client.get("/assets/whatever.js")
    assert api.requests == [
        ("GET", "/api/series/{series_id}", 404), ("other", "/api/status", 405), ("GET", "static", 404),
    ]  # fmt: skip


async def test_a_callers_trace_id_is_kept(api):
    """A valid W3C traceparent is used; an invalid one is replaced."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = await api.anonymous_client().get(
        "/api/health/live", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert response.headers["x-trace-id"] == trace
    invalid = await api.anonymous_client().get("/api/health/live", headers={"traceparent": "evil\r"})
    assert re.fullmatch("[0-9a-f]{32}", invalid.headers["x-trace-id"])


@pytest.mark.parametrize("path", ["/", "/api-docs", "/api/health/live", "/api/status", "/nothing", "/login"])
async def test_every_response_has_the_security_headers(api, path):
    """Pages, JSON and errors have the security headers."""
    headers = (await api.anonymous_client().get(path)).headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_api_responses_are_not_cached(api):
    """API responses have Cache-Control: no-store."""
    for path in ("/api/status", "/api/session", "/api/metrics"):
        assert (await api.anonymous_client().get(path)).headers["cache-control"] == "no-store"


async def test_the_body_of_a_validation_error_is_not_repeated(api):
    """A validation error names the field, not the value, which may be a secret."""
    response = await api.key_client("propose").post(FEEDBACK, json={"verdict": SECRET, SECRET: 1})
    body = assert_problem(response, 422, "body.verdict")
    assert {"where": "body.verdict"}.items() <= body["errors"][0].items()
    assert SECRET not in str([e["message"] for e in body["errors"]])


async def test_websockets_are_not_served(api):
    """A WebSocket connection is closed."""
    transport = httpx.ASGITransport(api.app)
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/status", "headers": [], "query_string": b"", "root_path": "",
             "subprotocols": [], "scheme": "ws"}  # fmt: skip
    await transport.app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_probes_are_logged_at_debug_level(api):
    """Successful health and metrics requests are logged at debug level, a refused scrape at info level."""
    with capture_logs() as lines:
        client = api.anonymous_client()
        for path in ("/api/health/live", "/api/health/ready", "/api/metrics", "/api/status"):
            await client.get(path)
        await api.anonymous_client("10.0.0.7").get("/api/metrics")
    logged = [(line["log_level"], line["route"]) for line in lines if line["event"] == "request"]
    assert logged == [
        ("debug", "/api/health/live"), ("debug", "/api/health/ready"), ("debug", "/api/metrics"),
        ("info", "/api/status"), ("info", "/api/metrics"),
    ]  # fmt: skip
