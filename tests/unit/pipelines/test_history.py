"""History from a fake Prometheus server on loopback."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from trimtab.pipelines.errors import HistoryError, InputError
from trimtab.pipelines.io.history import MAX_POINTS, format_series, history, time_chunks

END = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.fixture
def server():
    """Answers range queries with `server.answer(query)`; `server.asked` records the queries."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            query_record = query | {
                "path": urlsplit(self.path).path,
                "tenant": self.headers.get("X-Scope-OrgID"),
            }
            httpd.asked.append(query_record)
            status, body = httpd.answer(query)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_args):
            """Log nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.asked = []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def ok_answer(*series) -> tuple[int, str]:
    """Return a successful answer."""
    return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series)}})


def ramp_series(query: dict[str, str], **labels: str) -> dict[str, object]:
    """Return a series whose value is its time."""
    times = range(int(query["start"]), int(query["end"]) + 1, int(query["step"].rstrip("s")))
    return {"metric": labels, "values": [[t, str(t)] for t in times]}


def test_chunks_are_joined(server):
    """A long range is queried in chunks, and each sample is returned once, series by series."""
    server.answer = lambda q: ok_answer(
        ramp_series(q, __name__="up", job="x", instance="b:1"),
        ramp_series(q, __name__="up", job="x", instance="a:1"),
    )
    frame = history(server.url + "/", "up{job='x'}", since="36h", until=END, headers={"X-Scope-OrgID": "t1"})
    assert list(frame.columns) == ["unique_id", "ds", "y"]
    assert frame["unique_id"].unique().tolist() == [f'up{{instance="{i}:1",job="x"}}' for i in "ab"]
    assert len(frame) == 2 * (36 * 60 + 1)
    assert frame.groupby("unique_id")["ds"].diff().dropna().eq(timedelta(minutes=1)).all()
    assert frame["ds"].iloc[-1] == END
    np.testing.assert_array_equal(frame["y"], frame["ds"].astype("datetime64[s, UTC]").astype(np.int64))
    assert [q["query"] for q in server.asked] == ["up{job='x'}"] * 2
    assert {(q["path"], q["tenant"]) for q in server.asked} == {("/api/v1/query_range", "t1")}


def test_series_of_one_chunk_only(server):
    """A series that exists in one chunk only has rows in that chunk only."""
    server.answer = lambda q: ok_answer(*([ramp_series(q, job="late")] if len(server.asked) == 2 else []))
    frame = history(server.url, "sum by (job) (x)", since="36h", until=END)
    assert frame["unique_id"].unique().tolist() == ['{job="late"}']
    assert len(frame) == 36 * 60 + 1 - MAX_POINTS


def test_unknown_and_infinite_are_no_sample(server):
    """NaN and infinity, which Prometheus returns as text, become NaN."""
    values = [[0, "NaN"], [1, "+Inf"], [2, "-Inf"], [3.25, "1e3"]]
    server.answer = lambda _q: ok_answer({"metric": {"__name__": "x"}, "values": values})
    frame = history(server.url, "x", since="1m", until=END)
    np.testing.assert_equal(frame["y"].to_numpy(), [np.nan, np.nan, np.nan, 1000.0])
    assert frame["ds"].iloc[3].isoformat() == "1970-01-01T00:00:03.250000+00:00"


FAULTS = {
    "a bad query": ((400, '{"status":"error","error":"parse error: \\"}\\""}'), r"refused 'x': parse error"),
    "forbidden": ((403, "no"), "refused 'x': HTTP Status Code 403"),
    "another server": ((200, "<html>"), "did not answer 'x'"),
    "another API": ((200, "{}"), "did not answer 'x'"),
    "nothing": (ok_answer(), "has no samples of 'x' from 2026-01-02 23:59 to 2026-01-03 00:00 UTC"),
}


@pytest.mark.parametrize(("answer", "message"), FAULTS.values(), ids=FAULTS)
def test_server_errors(server, answer, message):
    """A refused or empty answer raises an error with the reason and without the password."""
    server.answer = lambda _q: answer
    with pytest.raises(HistoryError, match=message) as caught:
        history(server.url.replace("//", "//me:hunter2@"), "x", since="1m", until=END)
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_absent_server(server):
    """An absent server raises an error with its address and without the password."""
    server.shutdown()
    server.server_close()
    with pytest.raises(HistoryError, match=r"did not answer 'x' \(ConnectionError\)") as caught:
        history(server.url.replace("//", "//me:hunter2@"), "x", since="1m", until=END, timeout_s=2)
    assert "hunter2" not in str(caught.value)


BAD = [
    ({"url": "localhost:9090"}, "url: 'localhost:9090' is not an http"),
    ({"since": "yesterday"}, "since: 'yesterday' is not a duration above 0"),
    ({"since": -5}, "since: -5 is not a duration above 0"),
    ({"step": "500ms"}, "step: 0.5 s is not a whole number of seconds"),
    ({"until": datetime(2026, 1, 1)}, "until: 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - the fault
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=[row[1][:12] for row in BAD])
def test_invalid_arguments(changed, message):
    """An invalid argument raises an error that names it, before any request."""
    with pytest.raises(InputError, match=message):
        history(**({"url": "http://127.0.0.1:9", "selector": "x"} | changed))


def test_chunks_cover_and_do_not_overlap():
    """Chunks hold at most MAX_POINTS samples, do not overlap, and cover the range."""
    start = END - timedelta(seconds=15 * (2 * MAX_POINTS + 3))
    parts = list(time_chunks(start, END, 15.0))
    assert [(until - begin).total_seconds() / 15 + 1 for begin, until in parts] == [MAX_POINTS, MAX_POINTS, 4]
    assert parts[0][0] == start
    assert parts[-1][1] == END


def test_prometheus_form():
    """Labels are sorted and escaped as in Prometheus."""
    assert format_series({"__name__": "up"}) == "up"
    assert format_series({}) == "{}"
    assert format_series({"__name__": "x", "b": 'q"\\', "a": "1\n"}) == 'x{a="1\\n",b="q\\"\\\\"}'
