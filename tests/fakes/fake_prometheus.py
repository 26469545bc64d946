"""In-memory Prometheus server whose series, metadata and targets a test sets."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.builders.series import SECOND
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata
from trimtab.engine.types import Reading

Labels = tuple[tuple[str, str], ...]
_NAMES = re.compile(r'__name__=~"([^"]*)"')
_WINDOW = re.compile(r"\[(\d+)ms\]$")


def _window_s(expr: str) -> float:
    """Return the length of the range selector at the end of an expression; 0 = there is none."""
    found = _WINDOW.search(expr)
    return int(found[1]) / 1000 if found else 0.0


class FakePrometheus:
    """A Prometheus server whose series are lists of (time in seconds, value).

    clock         : clock of the server and of its client
    scrape_s      : scrape interval in seconds; 0 = the server lists no targets
    fixed_answer  : if set, it answers every request
    query_results : expression -> data returned for it
    requests      : requests received so far
    """

    def __init__(self, clock: FakeClock, scrape_s: float = 15.0) -> None:
        self.clock = clock
        self.scrape_s = scrape_s
        self.series: dict[Labels, list[tuple[float, float]]] = {}
        self.metadata_by_metric: dict[str, MetricMetadata] = {}
        self.query_results: dict[str, dict[str, Any]] = {}
        self.start_time = "2020-01-01T00:00:00Z"
        self.fixed_answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.requests: list[httpx.Request] = []
        self.failing_history: set[str] = set()

    @property
    def now_s(self) -> float:
        return self.clock.now() / SECOND

    def add_sample(self, name: str, value: float, at_s: float | None = None, **labels: str) -> None:
        """Add a sample, at the current time by default."""
        key = tuple(sorted({"__name__": name, "job": "web", "instance": "a:80", **labels}.items()))
        self.series.setdefault(key, []).append((self.now_s if at_s is None else at_s, value))

    def scrape(self, **values: float) -> None:
        """Add one scrape of the target: these metrics and `up`."""
        for name, value in {"up": 1.0, **values}.items():
            self.add_sample(name, value)

    def drop_metric(self, name: str) -> None:
        """Remove every series of a metric."""
        self.series = {k: v for k, v in self.series.items() if dict(k)["__name__"] != name}

    def matrix_rows(self, expr: str, end_s: float, window_s: float) -> list[Mapping[str, Any]]:
        """Return the raw samples of the metrics in an expression, of the `window_s` seconds up to `end_s`."""
        names = re.compile(_NAMES.findall(expr)[-1].replace("\\\\", "\\"))
        rows: list[Mapping[str, Any]] = []
        for labels, samples in self.series.items():
            inside = [[t, str(v)] for t, v in samples if end_s - window_s <= t <= end_s]
            if inside and names.fullmatch(dict(labels)["__name__"]):
                rows.append({"metric": dict(labels), "values": inside})
        return rows

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of the live client."""
        self.requests.append(request)
        if self.fixed_answer is not None:
            return self.fixed_answer(request)
        if request.url.path.endswith("/runtimeinfo"):
            return self.success({"startTime": self.start_time})
        if request.url.path.endswith("/config"):
            return self.success({"yaml": "global:\n  scrape_timeout: 5s\n  scrape_interval: 20s\n"})
        expr = parse_qs(request.content.decode())["query"][0]
        if expr in self.query_results:
            return self.success(self.query_results[expr])
        if not _window_s(expr):
            return httpx.Response(400, json={"status": "error", "error": "parse error"})
        return self.success(
            {"resultType": "matrix", "result": self.matrix_rows(expr, self.now_s, _window_s(expr))}
        )

    def success(self, data: object, **more: object) -> httpx.Response:
        """Return a successful response with this data."""
        body = json.dumps({"status": "success", "data": data, **more}).encode()
        return httpx.Response(200, content=body, headers={"date": formatdate(self.now_s, usegmt=True)})

    @contextmanager
    def connect_api(self) -> Iterator["FakePrometheus"]:
        """Yield this server in place of the API library's client."""
        yield self

    def count_series(self, selection: str) -> list[tuple[str, str, int]]:  # noqa: ARG002 - required by the port
        now = Counter(
            (dict(k)["__name__"], dict(k)["job"])
            for k, v in self.series.items()
            if v[-1][0] > self.now_s - 300
        )
        return [(name, job, n) for (name, job), n in now.items()]

    def metadata(self) -> dict[str, MetricMetadata]:
        return dict(self.metadata_by_metric)

    def targets(self) -> list[Mapping[str, Any]]:
        if not self.scrape_s:
            raise SourceError("no targets here")
        found = {(dict(k)["job"], dict(k)["instance"]) for k in self.series}
        return [
            {
                "labels": {"job": j, "instance": i},
                "scrapeInterval": f"{self.scrape_s:g}s",
                "lastScrapeDuration": 0.1,
            }
            for j, i in found
        ]

    def query_at(self, expr: str, at: int) -> list[Mapping[str, Any]]:
        self._raise_if_failing(expr)
        return self.matrix_rows(expr, at / SECOND, _window_s(expr))

    def query_range(self, expr: str, start: int, end: int, step_s: float) -> list[Mapping[str, Any]]:
        self._raise_if_failing(expr)
        rows: list[Mapping[str, Any]] = []
        for row in self.matrix_rows(expr, end / SECOND, 1e9):
            points = []
            for at in range(start, end + 1, round(step_s * SECOND)):
                before = [v for t, v in row["values"] if at / SECOND - 300 < t <= at / SECOND]
                points += [[at / SECOND, before[-1]]] if before else []
            if points:
                rows.append({"metric": row["metric"], "values": points})
        return rows

    def _raise_if_failing(self, expr: str) -> None:
        if any(name in expr for name in self.failing_history):
            raise SourceError("this piece fails")

    def make_source(self, max_series: int = 20_000, **settings: Any) -> PrometheusSource:
        """Return a source that reads this server."""
        return PrometheusSource(
            Prometheus(url="http://localhost:9090/prefix/", **settings), self.clock, max_series,
            transport=httpx.MockTransport(self.handle_request), connect_api=self.connect_api,
        )  # fmt: skip


async def run_scrapes(server: FakePrometheus, times: int = 3, **growth: float) -> None:
    """Add several scrapes; each counter grows by `growth` per scrape."""
    for i in range(times):
        server.scrape(temperature=20.0 + i, **{name: by * i for name, by in growth.items()})
        if i + 1 < times:
            server.clock.tick(server.scrape_s)


def values_by_series(reading: Reading) -> dict[str, float]:
    """Return series name -> value."""
    return dict(zip(map(str, reading.keys), reading.values.tolist(), strict=True))


LABELS = '{instance="a:80",job="web"}'
"""Labels of the series that `scrape` adds."""
