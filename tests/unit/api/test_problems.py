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
    """An API with one anomaly to write about."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


@pytest.fixture
def lines(monkeypatch):
    """What the API logs."""
    capture = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, capture])
    monkeypatch.setattr(request_logging, "log", logger)
    return capture.entries


def fail_with(api, monkeypatch, error):
    """Let the status route raise this error."""

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
async def test_errors_for_people_come_with_their_message(api, monkeypatch, error, status):
    """An error that says what to do is a problem with that message and the fitting status."""
    fail_with(api, monkeypatch, error)
    assert_problem(await api.key_client("read").get("/api/status"), status, str(error))


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), ShapeError(SECRET), EngineError(SECRET), KeyError(SECRET)]
)
async def test_internal_errors_show_only_a_trace_id(api, monkeypatch, lines, error):
    """A fault is a 500 without message or traceback; the log has it under the trace id of the answer."""
    fail_with(api, monkeypatch, error)
    answer = await api.key_client("read").get("/api/status")
    body = assert_problem(answer, 500, answer.headers["x-trace-id"])
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    fault, line = lines
    assert fault["trace_id"] == line["trace_id"] == body["trace_id"]
    assert SECRET in fault["traceback"]
    assert line["status"] == 500


async def test_a_message_for_people_is_cleaned_of_secrets(api, monkeypatch):
    """A password in the URL of a database that failed does not come out."""
    fail_with(api, monkeypatch, StoreError(f"postgresql://trimtab:{SECRET}@db:5432/x does not answer"))
    answer = await api.key_client("read").get("/api/status")
    assert_problem(answer, 503, "db:5432/x does not answer")
    assert SECRET not in answer.text


async def test_a_logged_traceback_holds_no_local_variables(api, monkeypatch, lines):
    """The key of the request that failed is not in the log: no values of variables are written."""
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
    """Unknown paths and wrong methods are problem+json like every other error."""
    assert_problem(await api.key_client("admin").request(method, path), status, words)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b'{"verdict": NaN}'])
async def test_broken_json_is_a_problem(api, content):
    """A body that is no JSON is refused with its place."""
    headers = {"Content-Type": "application/json"}
    answer = await api.key_client("propose").post(FEEDBACK, content=content, headers=headers)
    assert_problem(answer, 400 if content == b"\xff" else 422)


async def test_a_body_of_another_type_is_refused(api):
    """A form, which other sites can send without asking, is not read as JSON."""
    answer = await api.key_client("propose").post(FEEDBACK, content=b'{"verdict":"right"}',
                                                headers={"Content-Type": "text/plain"})  # fmt: skip
    assert_problem(answer, 422)


def body_chunks(total, size=100_000):
    """A body in parts, its length not told."""

    async def stream():
        for begin in range(0, total, size):
            yield b"x" * min(size, total - begin)

    return stream()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_one_megabyte_is_refused(api, chunked):
    """The limit holds whether the length is told or not; one byte less is read."""
    program = api.key_client("propose")
    for size, status in ((BODY_LIMIT_BYTES, 422), (BODY_LIMIT_BYTES + 1, 413)):
        content = body_chunks(size) if chunked else b"x" * size
        headers = {"Content-Type": "application/json"}
        answer = await program.post(FEEDBACK, content=content, headers=headers)
        assert_problem(answer, status)


async def test_a_body_that_never_comes_ends(api, monkeypatch):
    """A client that sends half a body and waits is let go."""
    monkeypatch.setattr(request_guard, "BODY_TIMEOUT_S", 0.05)

    async def half():
        yield b"{"
        await asyncio.Event().wait()

    answer = await api.key_client("propose").post(FEEDBACK, content=half())
    assert_problem(answer, 408)


async def test_a_disconnected_client_is_not_an_error(api, lines):
    """A client that goes away while it sends leaves one line with status 499."""
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


async def test_each_request_leaves_one_line_without_secrets(api, lines):
    """The line has method, route, status, duration, trace id and key prefix; no secret and no query."""
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
    """Metrics see the route's template and a known method, never what a client made up."""
    program = api.key_client("read")
    await program.get(f"/api/series/{'a' * 32}")
    await program.request("BREW", "/api/status")
    await program.get("/assets/whatever.js")
    assert api.requests == [
        ("GET", "/api/series/{series_id}", 404), ("other", "/api/status", 405), ("GET", "static", 404),
    ]  # fmt: skip


async def test_a_callers_trace_id_is_kept(api):
    """A W3C traceparent goes through, so that one id runs through all logs; nonsense is replaced."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await api.anonymous_client().get(
        "/api/health/live", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert answer.headers["x-trace-id"] == trace
    odd = await api.anonymous_client().get("/api/health/live", headers={"traceparent": "evil\r"})
    assert re.fullmatch("[0-9a-f]{32}", odd.headers["x-trace-id"])


@pytest.mark.parametrize("path", ["/", "/api-docs", "/api/health/live", "/api/status", "/nothing", "/login"])
async def test_every_answer_carries_the_security_headers(api, path):
    """Pages, JSON and errors alike: no foreign code, no framing, no sniffing, no referrer."""
    headers = (await api.anonymous_client().get(path)).headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_answers_of_the_api_are_not_cached(api):
    """What is true now is asked for each time."""
    for path in ("/api/status", "/api/session", "/api/metrics"):
        assert (await api.anonymous_client().get(path)).headers["cache-control"] == "no-store"


async def test_the_body_of_a_validation_error_is_not_repeated(api):
    """A value in a body may be a secret: the problem names the field, not the value."""
    answer = await api.key_client("propose").post(FEEDBACK, json={"verdict": SECRET, SECRET: 1})
    body = assert_problem(answer, 422, "body.verdict")
    assert {"where": "body.verdict"}.items() <= body["errors"][0].items()
    assert SECRET not in str([e["message"] for e in body["errors"]])


async def test_websockets_are_not_served(api):
    """There is no other protocol that could go around the door."""
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
    """Health and metrics are asked for every few seconds: only a scrape that fails is told as others are."""
    with capture_logs() as lines:
        client = api.anonymous_client()
        for path in ("/api/health/live", "/api/health/ready", "/api/metrics", "/api/status"):
            await client.get(path)
        await api.anonymous_client("10.0.0.7").get("/api/metrics")
    said = [(line["log_level"], line["route"]) for line in lines if line["event"] == "request"]
    assert said == [
        ("debug", "/api/health/live"), ("debug", "/api/health/ready"), ("debug", "/api/metrics"),
        ("info", "/api/status"), ("info", "/api/metrics"),
    ]  # fmt: skip
