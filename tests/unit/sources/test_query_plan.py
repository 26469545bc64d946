"""Selectors, metric kinds, the query plan, quantiles, and series replacement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engine.errors import SettingsError
from trimtab.engine.sources.prometheus.discovery import ScrapeTimings, duration_s
from trimtab.engine.sources.prometheus.query_plan import (
    MetricKind,
    MetricMetadata,
    make_plan,
    metric_kind,
    parse_selector,
)
from trimtab.engine.sources.prometheus.series_layout import quantile_of_buckets
from trimtab.engine.sources.prometheus.series_replacement import is_replacement
from trimtab.engine.types import SeriesKey


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ('{__name__!=""}', '__name__!=""'),
        ("up", '__name__="up"'),
        ("up{job='x'}", '__name__="up",job="x"'),  # single quotes
        (' up { job = "x" , a=~"b.*" , } ', '__name__="up",job="x",a=~"b.*"'),  # blanks, comma at the end
        ('{a="}\\"{"}', 'a="}\\"{"'),  # braces and quotes inside a value
        ('{a=`x"\\d`}', 'a="x\\"\\\\d"'),  # raw string
        ("{a='it\\'s'}", 'a="it\'s"'),
        ("{a!~'x',b!='y'}", 'a!~"x",b!="y"'),
    ],
)
def test_selectors(text, matchers):
    """Every notation of matchers is read and written in one form."""
    assert parse_selector(text) == matchers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "rate(x[5m])",
        "x[5m]",
        '{a="b"} or vector(1)',
        '{a="\\d"}',
        "{a}",
        "up{a='b' c='d'}",
        "{a=b}",
    ],
)
def test_invalid_selectors(text):
    """Anything else is refused before it reaches a query."""
    with pytest.raises(SettingsError, match=r"sources\.prometheus\.selector"):
        parse_selector(text)


TYPES = {
    "h": MetricMetadata("histogram"), "s": MetricMetadata("summary"), "g_total": MetricMetadata("gauge"),
    "c": MetricMetadata("counter"),
    "x_count": MetricMetadata("gauge"), "u": MetricMetadata("unknown"), "target": MetricMetadata("info"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("h_bucket", MetricKind.BUCKET), ("h_sum", MetricKind.IGNORED), ("h_count", MetricKind.COUNTER),
        ("h_created", MetricKind.IGNORED), ("s", MetricKind.GAUGE), ("s_sum", MetricKind.IGNORED),
        ("s_count", MetricKind.COUNTER),
        ("g_total", MetricKind.GAUGE),  # the type takes precedence over the name
        ("c", MetricKind.COUNTER), ("c_total", MetricKind.COUNTER), ("c_created", MetricKind.IGNORED),
        ("x_count", MetricKind.GAUGE), ("u", MetricKind.GAUGE), ("target_info", MetricKind.IGNORED),
        # recognised by their siblings
        ("q_bucket", MetricKind.BUCKET), ("q_sum", MetricKind.IGNORED), ("q_count", MetricKind.COUNTER),
        ("lone_bucket", MetricKind.COUNTER), ("lone_sum", MetricKind.COUNTER),
        ("job:requests:rate5m", MetricKind.GAUGE),
    ],
)  # fmt: skip
def test_kinds(name, kind):
    """A metric's kind follows its type, its family's type, its siblings, then its name."""
    assert metric_kind(name, TYPES, {"q_bucket", "q_sum", "q_count"}) is kind


def test_plan_keeps_watched_metrics():
    """Watched metrics stay under the cap although others precede them by name."""
    counts = {"a": 3, "b": 3}
    assert set(make_plan(counts, dict.fromkeys(counts, 15.0), {}, 5).kinds) == {"a"}
    plan = make_plan(counts, dict.fromkeys(counts, 15.0), {}, 5, watched=["b"])
    assert (set(plan.kinds), plan.skipped) == ({"b"}, {"a": 3})


def test_batches_contain_each_metric_once():
    """Batches are small and separate scrape intervals and Trimtab's own series."""
    counts = {f"m{i:03}": 10 for i in range(100)} | {"slow": 10, "yhat": 1}
    scrape_s = {name: 60.0 if name == "slow" else 15.0 for name in counts}
    batches = make_plan(counts, scrape_s, {}, 10_000).batches(max_series=200, max_names=15)
    assert sorted(name for b in batches for name in b.names) == sorted(counts)
    assert all(b.series <= 200 and len(b.names) <= 15 for b in batches)
    assert [b.names for b in batches if b.scrape_s == 60.0] == [("slow",)]
    assert [b.names for b in batches if b.is_own_series] == [("yhat",)]


def plain_quantile(q, bounds, counts):
    """histogram_quantile of PromQL for one histogram, with loops."""
    for i in range(1, len(counts)):
        counts[i] = max(counts[i], counts[i - 1])
    total = counts[-1]
    if not total > 0:
        return float("nan")
    at = next(i for i, count in enumerate(counts) if count >= q * total)
    if at == len(bounds) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    low, count_low = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    return low + (bounds[at] - low) * (q * total - count_low) / (counts[at] - count_low)


@given(
    st.sampled_from([0.5, 0.99]),
    st.lists(st.floats(0.001, 100), min_size=1, max_size=6, unique=True).map(sorted),
    st.data(),
)
def test_quantiles_equal_their_plain_twin(q, bounds, data):
    """Quantiles of many histograms at once equal those of PromQL, one by one."""
    n = len(bounds) + 1
    counts = data.draw(st.lists(st.lists(st.integers(0, 50), min_size=n, max_size=n), min_size=1, max_size=4))
    upper = [*bounds, float("inf")]
    got = quantile_of_buckets(q, np.array(upper), np.array(counts, np.float64))
    np.testing.assert_allclose(got, [plain_quantile(q, upper, row) for row in counts], rtol=1e-9)


def test_quantile_with_an_unknown_bucket_is_unknown():
    """With an unknown bucket the quantile is NaN."""
    upper = np.array([1.0, np.inf])
    assert np.isnan(quantile_of_buckets(0.5, upper, np.array([[np.nan, 3.0], [0.0, 0.0]]))).all()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0), ("", 0.0), ("x", 0.0)],
)
def test_durations(text, seconds):
    """Prometheus durations in seconds."""
    assert duration_s(text) == seconds


def test_the_most_frequent_interval():
    """The common interval is the most frequent one, the shorter one of a tie."""
    targets = [
        {"labels": {"job": "j", "instance": str(i)}, "scrapeInterval": each, "lastScrapeDuration": 0.2}
        for i, each in enumerate(["1m", "15s", "15s", "30s"])
    ]
    assert ScrapeTimings.from_targets(targets).common_interval_s == 15.0
    assert ScrapeTimings.from_targets(targets[:2]).common_interval_s == 15.0
    assert ScrapeTimings.from_targets(targets).by_target["j", "0"] == (60.0, 0.2)
    assert ScrapeTimings.from_targets([]).common_interval_s == 0.0


@pytest.mark.parametrize(
    ("vanished", "appeared", "replaced"),
    [
        ({"job": "a", "pod": "web-1"}, {"job": "a", "pod": "web-2"}, True),
        ({"job": "a", "instance": "h1:80"}, {"job": "a", "instance": "h2:80"}, True),
        ({"job": "a", "instance": "h1:80"}, {"job": "b", "instance": "h1:80"}, False),
        ({"id": "/kubepods/1", "name": "x"}, {"id": "/kubepods/2", "name": "x"}, True),
        ({"replica_set": "web-5d8f7c9b6d"}, {"replica_set": "web-7c6b5f4d9"}, True),  # a hash at its end
        ({"set": "web-5d8f7c9b6d"}, {"set": "db-7c6b5f4d9"}, False),
        ({"core": "0"}, {"core": "1"}, False),
        ({"color": "blue"}, {"color": "green"}, False),
        ({"path": "/a"}, {"path": "/b"}, False),
        ({"pod": "a"}, {"pod": "b", "zone": "c"}, False),  # other labels
        ({"pod": "a"}, {"pod": "a"}, False),  # the same series
        ({"device": "sda1"}, {"device": "sda2"}, False),
        ({"le_region": "eu-west-1"}, {"le_region": "eu-west-2"}, False),
    ],
)
def test_replacements(vanished, appeared, replaced):
    """A replacement differs only in pod, instance, id and hash-like names."""
    pair = [SeriesKey.of("prometheus", "m", labels) for labels in (vanished, appeared)]
    assert is_replacement(*pair) is replaced
    assert not is_replacement(pair[0], SeriesKey.of("prometheus", "other", appeared))
