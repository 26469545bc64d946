"""CPU time of the pattern recognition in a tick of 20,000 series."""

import time

import numpy as np
import pytest

from trimtab.engine.patterns.pattern_recognizer import MAX_ROWS, PatternRecognizer
from trimtab.engine.types import SeriesInfo, SeriesKey, TickScores

SERVICES = 2_000
SERVICE_METRICS = (
    ("http_requests_total", {"code": "200"}, 100.0),
    ("http_requests_total", {"code": "500"}, 0.1),
    ("http_request_duration_seconds_p99", {}, 0.2),
    ("process_resident_memory_bytes", {}, 3e8),
    ("process_memory_limit_bytes", {}, 8e8),
    ("process_cpu_seconds_total", {}, 0.3),
    ("db_pool_connections_active", {}, 4.0),
    ("db_pool_connections_max", {}, 20.0),
    ("mail_queue_length", {}, 3.0),
    ("up", {}, 1.0),
)
SECOND_NS = 1_000_000_000


@pytest.mark.benchmark(timer=time.process_time)
def test_a_tick_of_20000_series(benchmark):
    """With ten faulty services among 2,000, a tick takes less than 30 ms of CPU."""
    keys = tuple(
        SeriesKey.of("prometheus", name, labels | {"job": "web", "instance": f"web-{i}:80"})
        for i in range(SERVICES)
        for name, labels, _ in SERVICE_METRICS
    )
    level = np.tile([level for *_, level in SERVICE_METRICS], SERVICES)
    rng = np.random.default_rng(1)
    patterns = PatternRecognizer(
        15.0, lambda key: SeriesInfo(key, "", "rate" if "total" in key.metric else "gauge")
    )
    no_detector = np.full(len(keys), -1, np.int64)
    unknown = np.full(len(keys), np.nan)
    anomalous = list(range(0, len(keys), len(keys) // 10))
    ticks = iter(range(10**6))

    def step():
        time = next(ticks) * 15 * SECOND_NS
        values = level * (1 + 0.05 * rng.normal(size=len(keys)))
        scores = TickScores("prometheus", time, values, unknown, unknown, unknown, unknown, no_detector)
        patterns.step(time, keys, scores, anomalous)

    for _ in range(MAX_ROWS + 5):
        step()
    benchmark.pedantic(step, rounds=40)
    assert benchmark.stats.stats.median < 0.03
