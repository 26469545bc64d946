"""Access table: enforcement, completeness and path templates."""

import pytest
from fastapi import APIRouter, FastAPI

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import anomaly_of, series_view
from trimtab.engine.api.application import ROUTERS, create_app, declared_routes
from trimtab.engine.api.security.access_table import (
    ACCESS,
    BROWSER_ONLY,
    SCOPES,
    AccessRule,
    AccessTable,
    Scope,
    check_declared,
)
from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Api
from trimtab.engine.types import SeriesKey

KEY = SeriesKey.of("host", "cpu", {"core": "1"})
ANOMALY = "01JGFJJZ000000000000000000"
VALUES = {
    "series_id": KEY.id, "anomaly_id": ANOMALY, "key_id": ANOMALY, "asset": "init.js", "incident_id": ANOMALY,
    "recommendation_id": ANOMALY, "action_id": ANOMALY, "name": "redis", "target": "cache-1",
    "action": "warm_keys", "knob": "maxmemory", "silence_id": ANOMALY,
}  # fmt: skip
BODIES = {
    ("POST", "/api/anomalies/{anomaly_id}/feedback"): {"verdict": "right"},
    ("POST", "/api/keys"): {"name": "x", "scopes": ["read"]},
}
ROUTES = sorted(ACCESS)
STREAM = ("GET", "/api/stream")
"""Its response does not end; test_event_stream.py covers it."""


@pytest.fixture
def api():
    """Return an API with one series and one anomaly."""
    api = ApiHarness(loop=True)
    api.live.views[KEY.id] = series_view(KEY)
    api.store.save_anomaly(anomaly_of(KEY, ANOMALY))
    return api


async def send_request(client, method, template):
    """Request a route with existing values for its path parameters."""
    return await client.request(method, template.format(**VALUES), json=BODIES.get((method, template)))


def is_expected_to_pass(access, scope):
    """Return whether a key with this scope (None = no key) should have access."""
    if access in {AccessRule.OPEN, AccessRule.PROBE, AccessRule.LOOPBACK}:
        return True
    if scope is None:
        return False
    return access is AccessRule.ANY_KEY or scope in {access, Scope.ADMIN}


@pytest.mark.parametrize(("method", "template"), [route for route in ROUTES if route != STREAM])
@pytest.mark.parametrize("scope", [None, *SCOPES])
async def test_every_route_enforces_the_access_table(api, method, template, scope):
    """Each route admits exactly the scopes that the access table lists."""
    client = api.anonymous_client() if scope is None else api.key_client(scope)
    response = await send_request(client, method, template)
    if is_expected_to_pass(ACCESS[method, template], scope) and (method, template) not in BROWSER_ONLY:
        assert response.status_code not in {401, 403} or template == "/login", response.text
    else:
        assert_problem(response, 401 if scope is None else 403)


@pytest.mark.parametrize("scope", SCOPES)
async def test_ending_a_pause_requires_a_browser_session(api, scope):
    """An API key cannot end a pause, whatever its scopes; a browser session with the scope can."""
    assert_problem(await api.key_client(scope).delete("/api/pause"), 403)
    browser, csrf = await api.browser_client([scope])
    response = await browser.delete("/api/pause", headers={"X-CSRF-Token": csrf})
    assert response.status_code == (200 if scope in {Scope.APPROVE, Scope.ADMIN} else 403)


@pytest.mark.parametrize(("scope", "status"), [(None, 401), *((s, 403) for s in SCOPES[1:-1])])
async def test_event_stream_requires_the_scope_read(api, scope, status):
    """A key without the scope read gets no event stream."""
    client = api.anonymous_client() if scope is None else api.key_client(scope)
    assert_problem(await client.get("/api/stream"), status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_undeclared_method_is_refused(api, method):
    """A method that the table does not declare for a path gets 405 with the allowed methods."""
    client = api.key_client("admin")
    for template in {template for _, template in ROUTES}:
        if (method, template) not in ACCESS:
            response = await send_request(client, method, template)
            assert response.status_code == 405, (method, template)
            allowed = {m for m, t in ROUTES if t == template}
            assert set(response.headers["allow"].split(", ")) == allowed


async def test_unknown_api_paths_require_a_key(api):
    """An unknown path under /api gets 401 without a key and 404 with one."""
    for path in ("/api/nothing", "/api/series/x/y/z", "/api/", "/api", "/api-docs/x/y"):
        assert_problem(await api.anonymous_client().get(path), 401)
        assert_problem(await api.key_client("read").get(path), 404)


async def test_access_is_checked_for_the_path_that_is_routed(api):
    """An encoded ? or # is part of the path and does not weaken the access check."""
    reader = api.key_client("read")
    for path in ("/api/keys/%3Fx", "/api/keys/%23x", "/api/keys/x%3F"):
        assert_problem(await reader.delete(path), 403)
    assert_problem(await api.key_client("ingest").get("/api/series/%3Fx"), 403)
    assert_problem(await api.anonymous_client().get("/api%3F/../api/status"), 401)


def test_the_application_serves_exactly_the_table():
    """The application serves exactly the declared routes."""
    assert set(declared_routes(ApiHarness().app)) == set(ACCESS)


def test_an_undeclared_route_fails_at_start(monkeypatch):
    """A router with a route that the table does not declare stops the application from starting."""
    extra = APIRouter()
    extra.add_api_route("/api/backdoor", lambda: None, methods=["GET"])
    monkeypatch.setattr("trimtab.engine.api.application.ROUTERS", (*ROUTERS, extra))
    with pytest.raises(SettingsError, match="/api/backdoor"):
        ApiHarness()


def test_a_declared_route_that_is_not_served_fails():
    """A row of the table without a route is an error."""
    with pytest.raises(SettingsError, match="does not serve"):
        check_declared(list(ACCESS)[1:])


def test_a_mounted_application_is_refused():
    """Only the dashboard's files may be mounted."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/api/inner", FastAPI())
    with pytest.raises(SettingsError, match="not a plain route"):
        list(declared_routes(app))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/series", "/api/series"),
        ("/api/series/a", "/api/series/{series_id}"),
        ("/api/series/a/scores", "/api/series/{series_id}/scores"),
        ("/api/series/a/other", "unknown"),
        ("/api/series/", "unknown"),  # an empty id matches nothing
        ("/api", "unknown"),
        ("/apiary.js", "static"),  # a file, not an API path
        ("/login/x", "unknown"),
        ("/assets/index.js", "static"),
    ],
)
def test_path_is_matched_to_its_template(path, route):
    """A path is matched to its template, so that metrics have few label values."""
    assert AccessTable(ACCESS).match("GET", path).route == route


def test_application_needs_only_ports_and_settings():
    """The application is built from ports and settings alone."""
    api = ApiHarness()
    app = create_app(
        live=api.live, store=api.store, score_log=api.score_log, settings=Api(), clock=api.clock,
        web_dir=None, metrics_text=str, version="1",
    )  # fmt: skip
    assert app.version == "1"
