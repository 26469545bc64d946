"""Pattern recognition: onset, end, evidence and healthy look-alikes of each pattern."""

import numpy as np
import pytest

from trimtab.engine.patterns.leak_trend import fit_leak_trend, may_be_rising
from trimtab.engine.patterns.metric_window import MetricWindow
from trimtab.engine.patterns.pattern_recognizer import END_AFTER_MISSES, MAX_EVALUATED, PatternRecognizer
from trimtab.engine.patterns.pattern_rules import REMEDIES, RULES, remedies
from trimtab.engine.patterns.sample_ring import SampleRing
from trimtab.engine.types import Change, ChangeKind, SeriesInfo, SeriesKey, TickScores

S = 1_000_000_000
STEP_S = 15
TICKS = 160
RNG_SEED = 7
REDIS = {"job": "redis", "instance": "cache-1:9121"}
WEB = {"job": "web", "instance": "web-1:8000"}


def info(name, labels, kind="gauge", unit=""):
    """Return the metadata of a series."""
    return SeriesInfo(SeriesKey.of("prometheus", name, labels), unit, kind)


def steady(level, noise=0.02, ticks=TICKS):
    """Return a constant metric with noise."""
    rng = np.random.default_rng([RNG_SEED, int(level * 1000) % 2**31])
    return level * (1 + noise * rng.normal(size=ticks))


def run(series, changes=(), open_from=None, ticks=None):
    """Yield the matches of each tick for (info, values) pairs.

    From tick `open_from` on, every series has an open anomaly.
    """
    infos = {series_info.key: series_info for series_info, _ in series}
    keys = tuple(infos)
    patterns = PatternRecognizer(STEP_S, infos.__getitem__)
    values = np.stack([values for _, values in series], axis=1)[:ticks]
    for tick, row in enumerate(values):
        anomalous = range(len(keys)) if open_from is not None and tick >= open_from else ()
        yield patterns.step(tick * STEP_S * S, keys, scores(tick, row), list(anomalous), changes)


def scores(tick, row):
    """Return a tick with these values and no scores."""
    unscored = np.full(len(row), np.nan)
    no_detector = np.full(len(row), -1, np.int64)
    return TickScores(
        "prometheus", tick * STEP_S * S, row, unscored, unscored, unscored, unscored, no_detector
    )


def thrashing(hit_ratio=0.4, since=100, limit=True):
    """Return the series of a cache that is too small from tick `since` on."""
    thrashes = np.arange(TICKS) >= since
    misses = steady(1000) * np.where(thrashes, 1 - hit_ratio, 0.05)
    series = [
        (info("redis_keyspace_hits_total", REDIS, "rate", "1/s"), steady(1000) - misses),
        (info("redis_keyspace_misses_total", REDIS, "rate", "1/s"), misses),
        (info("redis_evicted_keys_total", REDIS, "rate", "1/s"), misses * thrashes),
        (info("redis_memory_used_bytes", REDIS, unit="B"), steady(0.98e9, 0.001)),
    ]
    return series + (
        [(info("redis_memory_max_bytes", REDIS, unit="B"), np.full(TICKS, 1e9))] if limit else []
    )


def test_content_of_a_match():
    """A match has entity, evidence, series, remedies and start."""
    (match,) = list(run(thrashing()))[-1]
    assert (match.name, match.entity) == ("cache_thrash", "redis/cache-1:9121")
    assert match.remedies[0] == "redis.maxmemory"
    assert any("hit ratio 40 %" in sentence for sentence in match.evidence)
    assert any("memory 98 % of its limit" in sentence for sentence in match.evidence)
    assert 100 <= match.since / STEP_S / S <= 110
    assert len(match.series_ids) == 3
    assert match.confidence == 1.0


def test_pattern_is_reported_soon():
    """A pattern is reported within ten ticks, and not before it begins."""
    reported = [bool(matches) for matches in run(thrashing())]
    assert not any(reported[:100])
    assert all(reported[110:])


def test_missing_evidence_lowers_the_confidence():
    """Unknown evidence lowers the confidence; without required evidence nothing is reported."""
    (complete,), (partial,) = list(run(thrashing()))[-1], list(run(thrashing(limit=False)))[-1]
    assert 0.6 <= partial.confidence < complete.confidence
    without = [pair for pair in thrashing() if "evicted" not in pair[0].key.metric]
    assert list(run(without))[-1] == []


def test_full_cache_with_good_hit_ratio_is_healthy():
    """A full cache with a good hit ratio shows no pattern."""
    assert not any(run(thrashing(hit_ratio=0.93, since=0)))


def test_pattern_ends_after_misses():
    """A pattern that is no longer recognized ends after a few evaluations."""
    series = [(series_info, np.concatenate([values, values[:90]])) for series_info, values in thrashing()]
    reported = [bool(matches) for matches in run(series)]
    assert reported[TICKS - 1]
    assert not reported[TICKS + 8 + END_AFTER_MISSES]


def test_an_unknown_tick_changes_nothing():
    """An unknown tick keeps the reported patterns and adds no row to the window."""
    series = thrashing()
    infos = {series_info.key: series_info for series_info, _ in series}
    patterns, keys = PatternRecognizer(STEP_S, infos.__getitem__), tuple(infos)
    values = np.stack([samples for _, samples in series], axis=1)
    for tick, row in enumerate(values):
        matches = patterns.step(tick * STEP_S * S, keys, scores(tick, row), [])
    rows = patterns.ring.filled
    unknown = scores(TICKS, np.full(len(keys), np.nan))
    assert patterns.step(TICKS * STEP_S * S, keys, unknown, []) == matches != []
    assert patterns.ring.filled == rows


def test_pattern_of_an_entity_without_samples_stays():
    """The pattern of an entity without samples stays until the window is empty."""
    gone = np.full(140, np.nan)
    series = [(series_info, np.concatenate([values, gone])) for series_info, values in thrashing()]
    other = (info("up", {"job": "prometheus", "instance": "p:9090"}), np.ones(TICKS + 140))
    matches = [bool(matches) for matches in run([*series, other])]
    assert all(matches[TICKS : TICKS + 100])
    assert not matches[-1]


@pytest.mark.parametrize(("ticks", "continues"), [(60, True), (600, False)], ids=["15 min", "2.5 h"])
def test_pattern_after_a_gap(ticks, continues):
    """A pattern continues after a gap shorter than its window."""
    series = thrashing()
    infos = {series_info.key: series_info for series_info, _ in series}
    patterns, keys = PatternRecognizer(STEP_S, infos.__getitem__), tuple(infos)
    values = np.stack([samples for _, samples in series], axis=1)
    for tick, row in enumerate(values):
        matches = patterns.step(tick * STEP_S * S, keys, scores(tick, row), [])
    assert matches
    matches = patterns.step((TICKS + ticks) * STEP_S * S, keys, scores(TICKS + ticks, values[-1]), [])
    assert bool(matches) is continues


def test_series_can_be_added_and_removed():
    """Adding a series keeps the history of the others; a removed entity shows no pattern."""
    series = thrashing()
    infos = {series_info.key: series_info for series_info, _ in series}
    patterns, keys = PatternRecognizer(STEP_S, lambda key: infos.get(key, SeriesInfo(key))), tuple(infos)
    values = np.stack([samples for _, samples in series], axis=1)
    for tick, row in enumerate(values[:150]):
        patterns.step(tick * STEP_S * S, keys, scores(tick, row), [])
    more = (SeriesKey.of("prometheus", "up", WEB), *keys)
    (match,) = patterns.step(150 * STEP_S * S, more, scores(150, np.append(1.0, values[150])), [])
    assert match.name == "cache_thrash"
    only = (SeriesKey.of("prometheus", "up", WEB),)
    assert patterns.step(151 * STEP_S * S, only, scores(151, np.ones(1)), []) == []


def web(**metrics):
    """Return the given series of a service."""
    named = {
        "load": info("http_requests_total", WEB | {"code": "200"}, "rate", "1/s"),
        "errors": info("http_requests_total", WEB | {"code": "500"}, "rate", "1/s"),
        "p99": info("http_request_duration_seconds_p99", WEB, unit="s"),
        "memory": info("process_resident_memory_bytes", WEB, unit="B"),
        "limit": info("process_memory_limit_bytes", WEB, unit="B"),
        "queue": info("mail_queue_length", WEB),
        "used": info("db_pool_connections_active", WEB),
        "most": info("db_pool_connections_max", WEB),
        "waiting": info("db_pool_connections_waiting", WEB),
        "busy": info("event_loop_busy_ratio", WEB, unit="ratio"),
        "failed": info(
            "dependency_requests_total", WEB | {"upstream": "stock", "code": "502"}, "rate", "1/s"
        ),
        "called": info(
            "dependency_requests_total", WEB | {"upstream": "stock", "code": "200"}, "rate", "1/s"
        ),
    }
    return [(named[name], values) for name, values in metrics.items()]


DEGRADED = np.arange(TICKS) >= 100
SINCE = np.maximum(np.arange(TICKS) - 100, 0)
BATCH = np.where(np.arange(TICKS) >= 130, np.clip(1 - (np.arange(TICKS) - 130) / 8, 0, 1), 0.0)
CLEAR_CASES = {
    "memory_leak": web(
        memory=steady(4e8, 0.003) + 2e6 * np.maximum(np.arange(TICKS) - 50, 0),
        limit=np.full(TICKS, 8e8),
        load=steady(50),
    ),
    "saturation_under_load": web(
        busy=np.where(DEGRADED, 0.97, 0.3),
        load=steady(50) * (1 + DEGRADED),
        p99=steady(0.1) * (1 + 3 * DEGRADED),
    ),
    "traffic_surge": web(load=steady(50) * (1 + DEGRADED), p99=steady(0.1)),
    "dependency_error_burst": web(
        load=steady(50) * (1 - 0.4 * DEGRADED),
        errors=20 * DEGRADED + 0.0,
        called=steady(50),
        failed=20 * DEGRADED + 0.0,
    ),
    "connection_pool_exhaustion": web(
        used=np.where(DEGRADED, 10.0, 3.0),
        most=np.full(TICKS, 10.0),
        waiting=12.0 * DEGRADED,
        p99=steady(0.1) * (1 + DEGRADED),
    ),
    "queue_backlog": web(queue=2 + 5.0 * SINCE),
    "level_shift_after_deploy": web(p99=steady(0.1) * (1 + DEGRADED), load=steady(50)),
}
DEPLOY = Change("c", 100 * STEP_S * S, ChangeKind.DEPLOY, "web 1.2", "ci", {"job": "web"})


@pytest.mark.parametrize("name", CLEAR_CASES)
def test_pattern_is_recognized(name):
    """A clear case of each pattern is reported with its remedies, and no other pattern is."""
    changes = [DEPLOY] if name == "level_shift_after_deploy" else []
    matches = list(run(CLEAR_CASES[name], changes, open_from=102))[-1]
    assert [match.name for match in matches] == [name]
    assert matches[0].evidence
    assert matches[0].remedies == remedies(name, {"process"})


HEALTHY_CASES = {
    "a load that grows with the memory": (
        "memory_leak",
        web(memory=4e8 + 1.5e6 * np.arange(TICKS), limit=np.full(TICKS, 8e8), load=50.0 + np.arange(TICKS)),
    ),
    "memory that levels off": (
        "memory_leak",
        web(memory=4e8 * (1.5 - 0.5 * np.exp(-np.arange(TICKS) / 30)), limit=np.full(TICKS, 9e8)),
    ),
    "a limit that is weeks away": (
        "memory_leak", web(memory=steady(4e8, 0.0001) + 2e4 * np.arange(TICKS), limit=np.full(TICKS, 8e10)),
    ),
    "a busy loop with normal latency": (
        "saturation_under_load", web(busy=np.where(DEGRADED, 0.97, 0.3), load=steady(50), p99=steady(0.1)),
    ),
    "errors that no dependency explains": (
        "dependency_error_burst", web(load=steady(50), errors=20 * DEGRADED + 0.0, called=steady(50)),
    ),
    "a full pool without waiting clients": (
        "connection_pool_exhaustion",
        web(used=np.full(TICKS, 10.0), most=np.full(TICKS, 10.0), waiting=np.zeros(TICKS)),
    ),
    "a batch that drains": (
        "queue_backlog", web(queue=2 + 300 * BATCH),
    ),
    "a short warm-up after a deploy": (
        "level_shift_after_deploy",
        web(p99=steady(0.1) * (1 + 3 * ((SINCE > 0) & (SINCE < 3))), load=steady(50)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY_CASES)
def test_healthy_look_alike_shows_no_pattern(case):
    """A similar but healthy case shows no pattern."""
    name, series = HEALTHY_CASES[case]
    changes = [DEPLOY] if name == "level_shift_after_deploy" else []
    reported = {match.name for matches in run(series, changes, open_from=102) for match in matches}
    assert name not in reported


def test_deploy_of_another_service_is_no_explanation():
    """A change of another job does not explain a degradation."""
    other = Change("c", 100 * STEP_S * S, ChangeKind.DEPLOY, "db 9", "ci", {"job": "db"})
    assert list(run(CLEAR_CASES["level_shift_after_deploy"], [other], open_from=102))[-1] == []


def test_unhealthy_neighbour_explains_errors():
    """Errors are attributed to a down neighbour on the same host."""
    down_neighbour = [(info("up", {"job": "stock", "instance": "web-1:9000"}), np.where(DEGRADED, 0.0, 1.0))]
    failing = web(load=steady(50) * (1 - 0.4 * DEGRADED), errors=20 * DEGRADED + 0.0)
    names = {(m.name, m.entity) for m in list(run(failing + down_neighbour, open_from=102))[-1]}
    assert ("dependency_error_burst", "web/web-1:8000") in names
    assert list(run(failing, open_from=102))[-1] == []


def metric_window(values):
    """Return the window of a metric sampled every 15 s."""
    times = np.arange(len(values), dtype=np.int64) * STEP_S * S
    return MetricWindow(times, np.asarray(values, np.float64), float("nan"), float("nan"))


@pytest.mark.parametrize("tooth", [0.0, 5.0, 40.0])
def test_leak_slope_ignores_garbage_collection(tooth):
    """The slope of the floor equals the leak's slope, with or without garbage-collection saw teeth."""
    at = np.arange(120)
    noise = np.random.default_rng(1).normal(0, 0.3, 120)
    trend = fit_leak_trend(metric_window(100 + 0.3 * at + tooth * (at % 7) / 7 + noise))
    assert trend.slope_per_s == pytest.approx(0.3 / STEP_S, rel=0.15)
    assert trend.steadiness > 0.9


@pytest.mark.parametrize(
    "values",
    [
        np.full(120, np.nan),  # unknown
        np.full(120, 100.0),  # constant
        100 - 0.2 * np.arange(120),  # falling
        100 + 0.3 * np.arange(50),  # too short
    ],
    ids=["unknown", "constant", "falling", "short"],
)
def test_no_leak_trend_without_steady_growth(values):
    """Unknown, constant, falling and short metrics have no trend."""
    assert fit_leak_trend(metric_window(values)) is None


def test_leak_filter_misses_no_leak():
    """Every steady rise passes the filter over all series."""
    at = np.arange(120.0)
    leaks = np.stack([100 + pace * at + 3 * (at % 5) for pace in (0.1, 0.3, 2.0)], axis=1)
    assert may_be_rising(leaks).all()
    assert not may_be_rising(np.stack([np.full(120, 5.0), np.full(120, np.nan)], axis=1)).any()


def test_ring_row_covers_one_step():
    """Ticks within one step overwrite its row; an older time or a long gap starts over."""
    ring = SampleRing(rows=4, step_s=15)
    ring.remap_columns(np.array([-1]))
    calm = np.ones(1, np.bool_)
    for at_s, filled in ((0, 1), (5, 1), (14, 1), (15, 2), (30, 3), (45, 4), (60, 4), (1000, 1), (900, 1)):
        ring.append(at_s * S, np.array([float(at_s)]), calm)
        assert ring.filled == filled
        assert ring.recent_mean(1).tolist() == [at_s]


def test_anomalous_ticks_barely_change_the_usual_level():
    """A shift during an anomaly does not become the usual level within the window."""
    rings = [SampleRing(120, 15), SampleRing(120, 15)]
    for ring, calm in zip(rings, (True, False), strict=True):
        ring.remap_columns(np.array([-1]))
        for tick in range(200):
            level = 10.0 if tick < 100 else 11.5
            ring.append(tick * STEP_S * S, np.array([level]), np.array([calm or tick < 100]))
    assert rings[0].usual[0] > 11.0
    assert rings[1].usual[0] < 10.3


def test_series_without_a_role_show_no_pattern():
    """Series without a role show no pattern."""
    series = [(info("weather_celsius", {"city": city}), steady(20)) for city in ("Bern", "Graz")]
    assert not any(run(series, [DEPLOY], open_from=5))


def test_more_entities_than_evaluated_per_tick_are_all_reported():
    """With more unhealthy entities than are evaluated per tick, each is reported eventually."""
    series = [
        (
            info("http_requests_total", WEB | {"instance": f"web-{i}:80"}, "rate", "1/s"),
            steady(50 + i) * (1 + DEGRADED),
        )
        for i in range(3 * MAX_EVALUATED)
    ]
    reported = {match.entity for matches in run(series, open_from=102) for match in matches}
    assert len(reported) == 3 * MAX_EVALUATED


def test_every_pattern_has_remedies():
    """Each rule has remedies for every tool family."""
    assert set(REMEDIES) == set(RULES)
    assert all(table[""] for table in REMEDIES.values())
