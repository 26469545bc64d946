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
    """Twenty-five series of one host."""
    api = ApiHarness()
    api.live.views = {key.id: series_view(key) for key in KEYS}
    return api


@pytest.fixture
def program(api):
    """A program that may read."""
    return api.key_client("read")


def ulid(number):
    """A ULID whose order is that of the number."""
    return f"01JGFJJZ00{number:016d}"


def parse_strict_json(text):
    """Parsed as JSON that knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


async def test_a_series_has_the_agreed_shape(program):
    """A series shows what the dashboard is promised, times in ISO 8601."""
    series = parse_strict_json((await program.get(f"/api/series/{KEYS[1].id}")).text)
    assert set(series) == SERIES_FIELDS
    assert series["series"] == 'cpu{core="1"}'
    assert series["labels"] == {"core": "1"}
    assert series["time"] == "2026-01-01T00:00:00.000Z"


async def test_unknown_is_null(api, program):
    """NaN, infinity and None all go out as null."""
    odd = series_view(
        KEYS[0], time=None, value=NAN, anomaly_score=None, yhat=float("inf"), yhat_lower=NAN, learning_s=40.0
    )
    api.live.views[odd.id] = odd
    series = parse_strict_json((await program.get(f"/api/series/{odd.id}")).text)
    unknown = ("time", "value", "anomaly_score", "yhat", "yhat_lower", "anomaly_id")
    assert [series[name] for name in unknown] == [None] * 6
    assert series["learning_s"] == 40


async def test_series_page_by_cursor(program):
    """Following `next` shows every series once."""
    seen, after, pages = [], None, 0
    while pages == 0 or after:
        query = {"limit": 10, "sort": "name"} | ({"after": after} if after else {})
        page = (await program.get("/api/series", params=query)).json()
        assert page["total"] == 25
        seen += [item["id"] for item in page["items"]]
        after, pages = page["next"], pages + 1
    assert pages == 3
    assert sorted(seen) == sorted(key.id for key in KEYS)


async def test_series_are_searched_and_filtered(program):
    """Search and source reach the live view."""
    found = (await program.get("/api/series", params={"search": 'core="12"'})).json()
    assert [item["labels"]["core"] for item in found["items"]] == ["12"]
    assert (await program.get("/api/series?source=other")).json() == {"items": [], "total": 0, "next": None}


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
async def test_wrong_parameters_say_what_is_wanted(program, path, words):
    """A parameter of a wrong form is a 422 that names it and shows the right form."""
    assert_problem(await program.get(path), 422, words)


@pytest.mark.parametrize(
    "path",
    [
        f"/api/series/{UNKNOWN_ID}",
        f"/api/series/{UNKNOWN_ID}/scores",
        f"/api/anomalies/{ulid(404)}",
    ],
)
async def test_unknown_ids_are_not_found(program, path):
    """An id of the right form that nobody has is a 404."""
    assert_problem(await program.get(path), 404)


def append_scores(api, key, n, **columns):
    """One row a second, the newest one second ago."""
    for row in range(n):
        here = {name: [column[row]] for name, column in columns.items()}
        api.score_log.append([key], tick_scores("host", START - (n - row) * SECOND, [float(row)], **here))


async def test_scores_come_by_column(api, program):
    """The last hour of a series comes as equally long columns, unknown as null."""
    append_scores(api, KEYS[0], 4000, anomaly_score=[0.5] * 4000)
    answer = parse_strict_json((await program.get(f"/api/series/{KEYS[0].id}/scores?points=20000")).text)
    columns = answer["columns"]
    assert set(answer) == {"id", "series", "unit", "columns"}
    assert list(columns) == ["time", "value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper"]
    assert {len(column) for column in columns.values()} == {3600}
    assert columns["time"][0] == iso(START - 3600 * SECOND)
    assert columns["time"][-1] == "2025-12-31T23:59:59.000Z"
    assert columns["value"][-1] == 3999
    assert columns["yhat"] == [None] * 3600


async def test_scores_of_a_window(api, program):
    """`since` is in, `until` is out, offsets are understood."""
    append_scores(api, KEYS[0], 100)
    query = {"since": "2026-01-01T00:59:00+01:00", "until": "2025-12-31T23:59:03.000000000Z"}
    answer = (await program.get(f"/api/series/{KEYS[0].id}/scores", params=query)).json()
    assert answer["columns"]["time"] == [iso(START - s * SECOND) for s in (60, 59, 58)]


async def test_a_series_without_scores_has_empty_columns(program):
    """Nothing known is an empty picture, not an error."""
    answer = (await program.get(f"/api/series/{KEYS[0].id}/scores")).json()
    assert set(map(len, answer["columns"].values())) == {0}


async def test_status_shows_engine_and_sources(api, program):
    """Status carries version, readiness, the engine's numbers and each source."""
    api.live.readiness_state = (False, "history of prometheus")
    api.live.statuses = [
        SourceStatus("host", SourceState.UP, 5.0, 120, START, "this machine"),
        SourceStatus("prometheus", SourceState.STARTING, 15.0, warm_progress=0.25),
    ]
    answer = parse_strict_json((await program.get("/api/status")).text)
    assert (answer["version"], answer["ready"]) == ("0.1.0", False)
    assert answer["waiting_for"] == "history of prometheus"
    assert answer["engine"] == {"uptime_s": 1.0, "ticks": 1, "streams": 0}
    up, starting = answer["sources"]
    assert up == {
        "name": "host", "state": "up", "interval_s": 5.0, "series": 120, "since": iso(START),
        "detail": "this machine", "left_out": 0, "warm_progress": None,
    }  # fmt: skip
    assert (starting["state"], starting["since"], starting["warm_progress"]) == ("starting", None, 0.25)


async def test_health_tells_ready_from_starting(api):
    """Live is always 200; ready is 503 with what it waits for until the engine ticks."""
    client = api.anonymous_client()
    assert (await client.get("/api/health/live")).json() == {"status": "ok"}
    assert (await client.get("/api/health/ready")).json() == {
        "status": "ready", "waiting_for": "", "problem": "",
    }  # fmt: skip
    api.live.readiness_state = (False, "host")
    answer = await client.get("/api/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "starting", "waiting_for": "host", "problem": ""}


async def test_an_unusable_store_is_not_ready(api):
    """While the store is unusable ready is 503; a probe, which needs no key, is not told where it is."""
    api.live.problem_text = "/data/joe/trimtab.db is gone"
    answer = await api.anonymous_client().get("/api/health/ready")
    assert answer.status_code == 503
    assert (answer.json()["status"], "joe" in answer.text) == ("failing", False)
    assert answer.json()["problem"].startswith("the store is unusable")


async def test_metrics_are_prometheus_text(api):
    """Metrics have the media type that Prometheus asks for."""
    answer = await api.anonymous_client().get("/api/metrics")
    assert answer.text == METRICS
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_anomalies_page_newest_first(api, program):
    """Following `next` shows every anomaly once, newest first; a full last page has no next."""
    for number in range(20):
        api.store.save_anomaly(anomaly_of(KEYS[0], ulid(number)))
    seen, after = [], None
    for _ in range(2):
        query = {"limit": 10} | ({"after": after} if after else {})
        page = (await program.get("/api/anomalies", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
    assert after is None
    assert seen == [ulid(number) for number in reversed(range(20))]


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
async def test_anomalies_are_filtered(api, program, query, found):
    """Each filter reaches the store."""
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
    items = (await program.get("/api/anomalies", params=query)).json()["items"]
    assert "".join("abcd"[int(item["id"][10:])] for item in items) == found


async def test_an_anomaly_has_the_agreed_shape(api, program):
    """An anomaly shows its band at the peak, with unknown as null, and what people said."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1), value=NAN, expected=NAN, direction=Direction.ABSENT))
    answer = parse_strict_json((await program.get(f"/api/anomalies/{ulid(1)}")).text)
    assert answer == {
        "id": ulid(1), "series_id": KEYS[0].id, "series": 'cpu{core="0"}', "source": "host",
        "labels": {"core": "0"}, "start": iso(START), "end": None, "peak_time": iso(START), "score": 1.5,
        "direction": "absent", "value": None, "expected": None, "lower": 0.5, "upper": 1.5,
        "detectors": ["ew_zscore"], "reason": "", "feedback": [],
    }  # fmt: skip


async def test_feedback_is_kept_and_replaced(api):
    """A person's word on an anomaly is stored under the key's name; a later one replaces it."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1)))
    person = api.anonymous_client(
        headers={"Authorization": f"Bearer {api.create_key('read', 'propose', name='ann')}"}
    )
    path = f"/api/anomalies/{ulid(1)}"
    answer = await person.post(f"{path}/feedback", json={"verdict": "wrong", "note": "backup <b>"})
    assert answer.status_code == 201
    expected = {"verdict": "wrong", "note": "backup <b>", "author": "ann", "time": iso(START)}
    assert answer.json() == expected
    assert (await person.get(path)).json()["feedback"] == [expected]
    await person.post(f"{path}/feedback", json={"verdict": "right"})
    assert [word.verdict for word in api.store.feedback(ulid(1))] == [Verdict.RIGHT]


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
async def test_feedback_of_another_form_is_refused(api, body):
    """Only right or wrong, a note of 2,000 characters and nothing else."""
    api.store.save_anomaly(anomaly_of(KEYS[0], ulid(1)))
    answer = await api.key_client("propose").post(f"/api/anomalies/{ulid(1)}/feedback", json=body)
    assert_problem(answer, 422)
    assert api.store.feedback_by_key == {}


async def test_feedback_on_nothing_is_not_found(api):
    """An anomaly that is not there takes no feedback."""
    answer = await api.key_client("propose").post(
        f"/api/anomalies/{ulid(9)}/feedback", json={"verdict": "right"}
    )
    assert_problem(answer, 404)


async def test_keys_are_made_listed_and_revoked(api):
    """The secret is in the answer to its making and nowhere else; a revoked key is refused at once."""
    admin = api.key_client("admin")
    made = await admin.post("/api/keys", json={"name": "grafana", "scopes": ["read"], "expires_in_days": 1})
    assert made.status_code == 201
    key = made.json()
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
async def test_wrong_keys_are_not_made(api, body, status):
    """A key needs a free name, known scopes and a time to live above zero."""
    api.create_key("read", name="taken")
    assert_problem(await api.key_client("admin").post("/api/keys", json=body), status)


def test_iso_and_back():
    """The clock of the tests is the time that the answers show."""
    assert datetime.fromtimestamp(START / 1e9, UTC).isoformat() == "2026-01-01T00:00:00+00:00"
    assert np.datetime64(START, "ns") == np.datetime64("2026-01-01T00:00:00")
