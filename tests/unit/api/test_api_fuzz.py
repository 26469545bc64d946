"""Fuzz test: no input to the control loop's routes causes an internal error."""

import json
import re
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.api_client import ApiHarness
from trimtab.engine.api.security.access_table import ACCESS
from trimtab.engine.api.shapes.examples import ACTION, AUDIT_ROW, INCIDENT, RECOMMENDATION, TARGET, TOOL

LOOP = (
    "incidents",
    "changes",
    "alerts",
    "recommendations",
    "actions",
    "audit",
    "pause",
    "tools",
    "knobs",
    "forecasts",
    "models",
    "pipelines",
)
ROUTES = sorted(route for route in ACCESS if set(route[1].split("/")[2:3]) & set(LOOP))
VALID_VALUES = {
    "incident_id": INCIDENT.id, "recommendation_id": RECOMMENDATION.id, "action_id": ACTION.id,
    "name": "redis", "target": "cache-1", "action": "warm_keys", "knob": "maxmemory", "series_id": "0" * 16,
}  # fmt: skip
NAMES = (
    "limit", "after", "since", "until", "state", "open", "pattern", "min_severity", "search", "incident_id",
    "tool", "target", "unfinished", "recommendation_id", "subject", "reason",
)  # fmt: skip
FIELDS = (
    "note", "into", "anomaly_ids", "kind", "title", "time", "labels", "url", "version", "alerts", "status",
    "startsAt", "fingerprint", "reason", "at", "enabled", "before", "after",
)  # fmt: skip
edge_cases = st.sampled_from(
    [
        "",
        "true",
        "0",
        "-1",
        "1e999",
        str(2**64),
        "2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        INCIDENT.id,
        "\0",
    ]
)
texts = st.one_of(edge_cases, st.text(max_size=20))
scalars = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats())
bodies = st.one_of(
    scalars,
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(texts, scalars, max_size=3)),
        max_size=4,
    ),
)


def make_full_api() -> ApiHarness:
    """Return an API with one record of each type."""
    api = ApiHarness(loop=True)
    assert api.loop is not None
    api.loop.incidents.save_incidents([INCIDENT])
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = RECOMMENDATION
    api.loop.ledger.actions_by_id[ACTION.id] = ACTION
    api.loop.ledger.rows.append(AUDIT_ROW)
    api.loop.toolbox.tool_views["redis"] = TOOL
    api.loop.toolbox.target_views["redis", "cache-1"] = TARGET
    return api


@settings(max_examples=150, deadline=None)
@given(
    route=st.sampled_from(ROUTES),
    path_value=st.one_of(st.none(), texts),
    query=st.dictionaries(st.sampled_from(NAMES), texts, max_size=3),
    body=bodies,
)
async def test_no_input_causes_an_internal_error(route, path_value, query, body):
    """Unusual paths, queries and bodies get a status below 500."""
    method, template = route
    api = make_full_api()
    browser, csrf = await api.browser_client()
    path = re.sub(
        r"\{(\w+)\}",
        lambda m: quote(VALID_VALUES[m[1]] if path_value is None else path_value or "x", safe=""),
        template,
    )
    content = json.dumps(body) if method in {"POST", "PUT"} else None
    headers = {"X-CSRF-Token": csrf, "Content-Type": "application/json"}
    response = await browser.request(method, path, params=query, content=content, headers=headers)
    assert response.status_code < 500, response.text
    if response.status_code not in {204, 304}:
        json.loads(response.text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
