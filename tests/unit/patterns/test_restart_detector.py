"""Detection of restarts from series."""

import math

import numpy as np
import pytest

from trimtab.engine.patterns.entity_view import EntityIndex
from trimtab.engine.patterns.restart_detector import MAX_AGE_NS, RestartDetector
from trimtab.engine.types import SeriesInfo, SeriesKey

SECOND = 1_000_000_000
BEGIN = 1_767_225_600
T = (BEGIN + 3600) * SECOND
LABELS = {"job": "redis", "instance": "cache-1:9121"}


def detected_restarts(metric, values, kind="gauge"):
    """Return (tick, restart age in seconds) of each restart detected in these values, 15 s apart."""
    info = SeriesInfo(SeriesKey.of("p", metric, LABELS), kind=kind)
    detector, entities = RestartDetector(lambda _: info), EntityIndex((info.key,), lambda _: info)
    found = []
    for tick, value in enumerate(values):
        now = T + tick * 15 * SECOND
        for key, at in detector.step(now, entities, np.array([value])):
            assert key == info.key
            found.append((tick, (now - at) / SECOND))
    return found


LONG_AGO = BEGIN - 2 * MAX_AGE_NS / SECOND


@pytest.mark.parametrize(
    ("metric", "kind", "values", "expected"),
    [
        ("process_start_time_seconds", "gauge", [BEGIN, BEGIN, BEGIN + 3625, BEGIN + 3625], [(2, 5.0)]),
        ("process_start_time_seconds", "gauge", [BEGIN, BEGIN + 0.5, BEGIN - 0.5, BEGIN], []),
        (
            "process_start_time_seconds",
            "gauge",
            [BEGIN, math.nan, BEGIN, math.nan, BEGIN + 3620],
            [(4, 40.0)],
        ),
        (
            "process_start_time_seconds",
            "gauge",
            [LONG_AGO, LONG_AGO + 9],
            [(1, 0.0)],
        ),
        ("node_boot_time_seconds", "gauge", [BEGIN, BEGIN + 9e9], [(1, 0.0)]),
        ("redis_uptime_in_seconds", "gauge", [100, 115, 130, 3, 18], [(3, 3.0)]),
        ("pm2_uptime_seconds", "gauge", [100, 115, math.nan, 145], []),
        ("pm2_restarts_total", "rate", [0.0, 0.0, 0.07, 0.0], [(2, 0.0)]),
        ("pm2_restarts_total", "rate", [0.07, 0.0], []),
        ("kube_pod_container_status_restarts_total", "gauge", [4, 4, 5, 5, 0], [(2, 0.0)]),
        ("redis_memory_used_bytes", "gauge", [4, 1, 5], []),
        ("process_start_time_seconds", "gauge", [BEGIN, math.inf, BEGIN, -math.inf, BEGIN], []),
    ],
)
def test_restart_detection(metric, kind, values, expected):
    """Restarts are detected in start times, uptimes and counters, not in jitter, gaps or first values."""
    assert detected_restarts(metric, values, kind) == expected


def test_values_are_matched_by_series():
    """Values are matched to their series when the order changes; a removed series is forgotten."""
    infos = [
        SeriesInfo(SeriesKey.of("p", "process_start_time_seconds", {"job": "web", "instance": name}))
        for name in ("a", "b")
    ]
    a, b = (info.key for info in infos)
    detector = RestartDetector(SeriesInfo)
    assert detector.step(T, EntityIndex((a, b), SeriesInfo), np.array([BEGIN, BEGIN + 900.0])) == []
    swapped = EntityIndex((b, a), SeriesInfo)
    ((key, _),) = detector.step(T, swapped, np.array([BEGIN + 900.0, BEGIN + 60.0]))
    assert key == a
    detector.step(T, EntityIndex((b,), SeriesInfo), np.array([BEGIN + 900.0]))
    assert detector.step(T, EntityIndex((b, a), SeriesInfo), np.array([BEGIN + 900.0, BEGIN + 500.0])) == []
