"""Routes of series, scores, status, anomalies, feedback and keys."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.builders.api_client import METRICS, ApiHarness, assert_problem
from tests.builders.series import SECOND, START, anomaly_of, series_view, tick_scores
from trimtab.engine.types import (
    Direction,
    SeriesKey,
    SeriesView,
    SourceState,
    SourceStatus,
    Verdict,
    iso,
)

NAN = float("nan")
KEYS = [SeriesKey.of("host", "cpu", {"core": str(core)}) for core in range(25)]
SERIES_FIELDS = set(SeriesView.__dataclass_fields__)
UNKNOWN_ID = "f" * 32


@pytest.fixture
def api():
    """Return an API with 25 series of one host."""
    api = ApiHarness()
    api.live.views = {key.id: series_view(key) for key in KEYS}
    return api


@pytest.fixture
def reader(api):
    """Return a client with the scope read."""
    return api.key_client("read")


def ulid(number):
    """Return a ULID that sorts by the number."""
    return f"01JGFJJZ00{number:016d}"


def parse_strict_json(text):
    """Parse JSON; fail the test on NaN or Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


async def test_series_has_the_documented_fields(reader):
    """A series has the documented fields and ISO 8601 times."""
    series = parse_strict_json((await reader.get(f"/api/series/{KEYS[1].id}")).text)
    assert set(series) == SERIES_FIELDS
    assert series["series"] == 'cpu{core="1"}'
    assert series["labels"] == {"core": "1"}
    assert series["time"] == "2026-01-01T00:00:00.000Z"


async def test_unknown_is_null(api, reader):
    """NaN, infinity and None are null in JSON."""
    unknown_view = series_view(
        KEYS[0], time=None, value=NAN, anomaly_score=None, yhat=float("inf"), yhat_lower=NAN, learning_s=40.0
    )
    api.live.views[unknown_view.id] = unknown_view
    series = parse_strict_json((await reader.get(f"/api/series/{unknown_view.id}")).text)
    unknown = ("time", "value", "anomaly_score", "yhat", "yhat_lower", "anomaly_id")
    assert [series[name] for name in unknown] == [None] * 6
    assert series["learning_s"] == 40


async def test_series_page_by_cursor(reader):
    """Following `next` returns every series once."""
    ids, after, pages = [], None, 0
    while pages == 0 or after:
        query = {"limit": 10, "sort": "name"} | ({"after": after} if after else {})
        page = (await reader.get("/api/series", params=query)).json()
        assert page["total"] == 25
        ids += [item["id"] for item in page["items"]]
        after, pages = page["next"], pages + 1
    assert pages == 3
    assert sorted(ids) == sorted(key.id for key in KEYS)


async def test_series_are_searched_and_filtered(reader):
    """Series are searched by words and filtered by source."""
    found = (await reader.get("/api/series", params={"search": 'core="12"'})).json()
    assert [item["labels"]["core"] for item in found["items"]] == ["12"]
    assert (await reader.get("/api/series?source=other")).json() == {"items": [], "total": 0, "next": None}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/series?limit=0", "limit"),
        ("/api/series?limit=1001", "limit"),
        ("/api/series?limit=ten", "'ten'"),
        ("/api/series?sort=colour", "sort"),
        ("/api/series/UPPER", "series_id"),
        (f"/api/series/{KEYS[0].id}/scores?points=1", "points"),
        (f"/api/series/{KEYS[0].id}/scores?since=yesterday", "2026-01-01T00:00:00Z"),
        (f"/api/series/{KEYS[0].id}/scores?since=2026-01-01T00:00:00", "2026-01-01T00:00:00Z"),  # no offset
        (f"/api/series/{KEYS[0].id}/scores?since=2026-02-30T00:00:00Z", "no such date"),
        (f"/api/series/{KEYS[0].id}/scores?since=2026-01-01T00:00:00+01:00", "%2B"),  # + is a space there
        (f"/api/series/{KEYS[0].id}/scores?until=0001-01-01T00:00:00Z", "1678"),
        (
            f"/api/series/{KEYS[0].id}/scores?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
            "before until",
        ),
        ("/api/anomalies?after=nonsense", "ULID"),
        ("/api/anomalies?direction=sideways", "direction"),
        ("/api/anomalies?min_score=nan", "min_score"),
        ("/api/anomalies?series_id=x", "series_id"),
        ("/api/anomalies?open=perhaps", "open"),
        ("/api/anomalies/not-a-ulid", "anomaly_id"),
        ("/api/anomalies/81JGFJJZ000000000000000000", "anomaly_id"),  # over 128 bits
    ],
)
async def test_invalid_parameter_is_refused(reader, path, words):
    """An invalid parameter gets 422 with its name or the expected format."""
    assert_problem(await reader.get(path), 422, words)


@pytest.mark.parametrize(
    "path",
    [
        f"/api/series/{UNKNOWN_ID}",
        f"/api/series/{UNKNOWN_ID}/scores",
        f"/api/anomalies/{ulid(404)}",
    ],
)
async def test_unknown_ids_are_not_found(reader, path):
    """A well-formed unknown id gets 404."""
    assert_problem(await reader.get(path), 404)


def append_scores(api, key, n, **columns):
    """Append one row per second; the newest is one second old."""
    for row in range(n):
        here = {name: [column[row]] for name, column in columns.items()}
        api.score_log.append([key], tick_scores("host", START - (n - row) * SECOND, [float(row)], **here))


async def test_scores_are_columns(api, reader):
    """The last hour of a series is returned as columns of equal length, with null for unknown."""
    append_scores(api, KEYS[0], 4000, anomaly_score=[0.5] * 4000)
    response = parse_strict_json((await reader.get(f"/api/series/{KEYS[0].id}/scores?points=20000")).text)
    columns = response["columns"]
    assert set(response) == {"id", "series", "unit", "columns"}
    assert list(columns) == ["time", "value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper"]
    assert {len(column) for column in columns.values()} == {3600}
    assert columns["time"][0] == iso(START - 3600 * SECOND)
    assert columns["time"][-1] == "2025-12-31T23:59:59.000Z"
    assert columns["value"][-1] == 3999
    assert columns["yhat"] == [None] * 3600


async def test_scores_of_a_window(api, reader):
    """`since` is inclusive, `until` is exclusive, and UTC offsets are accepted."""
    append_scores(api, KEYS[0], 100)
    query = {"since": "2026-01-01T00:59:00+01:00", "until": "2025-12-31T23:59:03.000000000Z"}
    response = (await reader.get(f"/api/series/{KEYS[0].id}/scores", params=query)).json()
    assert response["columns"]["time"] == [iso(START - s * SECOND) for s in (60, 59, 58)]


async def test_a_series_without_scores_has_empty_columns(reader):
    """A series without scores has empty columns."""
    response = (await reader.get(f"/api/series/{KEYS[0].id}/scores")).json()
    assert set(map(len, response["columns"].values())) == {0}


async def test_status_shows_engine_and_sources(api, reader):
    """The status has version, readiness, engine values and each source."""
    api.live.readiness_state = (False, "history of prometheus")
    api.live.statuses = [
        SourceStatus("host", SourceState.UP, 5.0, 120, START, "this machine"),
        SourceStatus("prometheus", SourceState.STARTING, 15.0, warm_progress=0.25),
    ]
    response = parse_strict_json((await reader.get("/api/status")).text)
    assert (response["version"], response["ready"]) == ("0.1.0", False)
    assert response["waiting_for"] == "history of prometheus"
    assert response["engine"] == {"uptime_s": 1.0, "ticks": 1, "streams": 0}
    up, starting = response["sources"]
    assert up == {
        "name": "host", "state": "up", "interval_s": 5.0, "series": 120, "since": iso(START),
        "detail": "this machine", "left_out": 0, "warm_progress": None,
    }  # fmt: skip
    assert (starting["state"], starting["since"], starting["warm_progress"]) == ("starting", None, 0.25)


async def test_readiness_while_starting(api):
    """Live is always 200; ready is 503 with what the engine waits for until it ticks."""
    client = api.anonymous_client()
    assert (await client.get("/api/health/live")).json() == {"status": "ok"}
    assert (await client.get("/api/health/ready")).json() == {
        "status": "ready", "waiting_for": "", "problem": "",
    }  # fmt: skip
    api.live.readiness_state = (False, "host")
    response = await client.get("/api/health/ready")
    assert response.status_code == 503
    assert response.json() == {"status": "starting", "waiting_for": "host", "problem": ""}


async def test_an_unusable_store_is_not_ready(api):
    """While the store is unusable, ready is 503 without the store's path."""
    api.live.problem_text = "/data/joe/trimtab.db is gone"
    response = await api.anonymous_client().get("/api/health/ready")
    assert response.status_code == 503
    assert (response.json()["status"], "joe" in response.text) == ("failing", False)
    assert response.json()["problem"].startswith("the store is unusable")


async def test_metrics_are_prometheus_text(api):
    """Metrics have the media type of the Prometheus text format."""
    response = await api.anonymous_client().get("/api/metrics")
    assert response.text == METRICS
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_anomalies_page_newest_first(api, reader):
    """Following `next` returns every anomaly once, newest first; a full last page has no `next`."""
    for number in range(20):
        api.store.save_anomaly(anomaly_of(KEYS[0], ulid(number)))
    ids, after = [], None
    for _ in range(2):
        query = {"limit": 10} | ({"after": after} if after else {})
        page = (await reader.get("/api/anomalies", params=query)).json()
        ids += [item["id"] for item in page["items"]]
        after = page["next"]
    assert after is None
    assert ids == [ulid(number) for number in reversed(range(20))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "dcba"),
        ({"open": "true"}, "db"),
        ({"source": "prometheus"}, "d"),
        ({"direction": "absent"}, "c"),
        ({"min_score": "2"}, "dc"),
        ({"search": "CORE cpu"}, "cba"),
        ({"since": iso(START + 100 * SECOND)}, "db"),
        ({"until": iso(START + 100 * SECOND)}, "ba"),
        ({"series_id": KEYS[0].id}, "a"),
    ],
)
async def test_anomalies_are_filtered(api, reader, query, found):
    """Anomalies are filtered by each parameter."""
    end, late = START + 10 * SECOND, START + 100 * SECOND
    other = SeriesKey.of("prometheus", "latency")
    rows = [
        anomaly_of(KEYS[0], ulid(0), end=end),
        anomaly_of(KEYS[1], ulid(1)),
        anomaly_of(KEYS[2], ulid(2), start=late, end=late - 1, direction=Direction.ABSENT, score=2.0),
        anomaly_of(other, ulid(3), start=late, score=9.0),
    ]
    for row in rows:
        api.store.save_anomaly(row)
    items = (await reader.get("/api/anomalies", params=query)).json()["items"]
    assert "".join("abcd"[int(item["id"][10:])] for item in items) == found


async def test_anomaly_has_the_documented_fields(api, reader):
    """An anomaly has its expected range at the peak, null for unknown, and its feedback."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1), value=NAN, expected=NAN, direction=Direction.ABSENT))
    response = parse_strict_json((await reader.get(f"/api/anomalies/{ulid(1)}")).text)
    assert response == {
        "id": ulid(1), "series_id": KEYS[0].id, "series": 'cpu{core="0"}', "source": "host",
        "labels": {"core": "0"}, "start": iso(START), "end": None, "peak_time": iso(START), "score": 1.5,
        "direction": "absent", "value": None, "expected": None, "lower": 0.5, "upper": 1.5,
        "detectors": ["ew_zscore"], "reason": "", "feedback": [],
    }  # fmt: skip


async def test_feedback_is_stored_and_replaced(api):
    """Feedback is stored under the name of its key; later feedback replaces it."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1)))
    ann = api.anonymous_client(
        headers={"Authorization": f"Bearer {api.create_key('read', 'propose', name='ann')}"}
    )
    path = f"/api/anomalies/{ulid(1)}"
    response = await ann.post(f"{path}/feedback", json={"verdict": "wrong", "note": "backup <b>"})
    assert response.status_code == 201
    expected = {"verdict": "wrong", "note": "backup <b>", "author": "ann", "time": iso(START)}
    assert response.json() == expected
    assert (await ann.get(path)).json()["feedback"] == [expected]
    await ann.post(f"{path}/feedback", json={"verdict": "right"})
    assert [feedback.verdict for feedback in api.store.feedback(ulid(1))] == [Verdict.RIGHT]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verdict": "perhaps"},
        {"verdict": "right", "note": "x" * 2001},
        {"verdict": "right", "more": 1},
        [],
    ],
)
async def test_malformed_feedback_is_refused(api, body):
    """Feedback is right or wrong with a note of at most 2,000 characters."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1)))
    response = await api.key_client("propose").post(f"/api/anomalies/{ulid(1)}/feedback", json=body)
    assert_problem(response, 422)
    assert api.store.feedback_by_key == {}


async def test_feedback_on_an_unknown_anomaly_is_not_found(api):
    """Feedback on an unknown anomaly gets 404."""
    response = await api.key_client("propose").post(
        f"/api/anomalies/{ulid(9)}/feedback", json={"verdict": "right"}
    )
    assert_problem(response, 404)


async def test_keys_are_created_listed_and_revoked(api):
    """Only the creation response has the secret; a revoked key is refused immediately."""
    admin = api.key_client("admin")
    created = await admin.post(
        "/api/keys", json={"name": "grafana", "scopes": ["read"], "expires_in_days": 1}
    )
    assert created.status_code == 201
    key = created.json()
    assert key["expires"] == "2026-01-02T00:00:00.000Z"
    holder = api.anonymous_client(headers={"Authorization": f"Bearer {key['secret']}"})
    assert (await holder.get("/api/status")).status_code == 200
    listed = (await admin.get("/api/keys")).json()["items"]
    assert {k: v for k, v in key.items() if k != "secret"} in listed
    assert not any("hash" in item or "secret" in item for item in listed)
    assert (await admin.delete(f"/api/keys/{key['id']}")).status_code == 204
    assert_problem(await holder.get("/api/status"), 401)
    assert_problem(await admin.delete(f"/api/keys/{key['id']}"), 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "", "scopes": ["read"]}, 422),
        ({"name": "  ", "scopes": ["read"]}, 422),
        ({"name": "x", "scopes": []}, 422),
        ({"name": "x", "scopes": ["write"]}, 422),
        ({"name": "x", "scopes": ["read"], "expires_in_days": -1}, 422),
        ({"name": "taken", "scopes": ["read"]}, 409),
    ],
)
async def test_invalid_keys_are_not_created(api, body, status):
    """A key needs an unused name, known scopes and a positive lifetime."""
    api.create_key("read", name="taken")
    assert_problem(await api.key_client("admin").post("/api/keys", json=body), status)


def test_start_time_of_the_fake_clock():
    """START is the start of 2026 in UTC."""
    assert datetime.fromtimestamp(START / 1e9, UTC).isoformat() == "2026-01-01T00:00:00+00:00"
    assert np.datetime64(START, "ns") == np.datetime64("2026-01-01T00:00:00")
