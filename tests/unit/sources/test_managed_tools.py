"""Managed tools as a source of series."""

import math
from types import SimpleNamespace

import pytest

from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError, StoreError, ToolError
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import find_role
from trimtab.engine.sources import managed_tools
from trimtab.engine.sources.managed_tools import ToolsSource


class MetricsToolbox:
    """A toolbox of scripted metrics; None = the target does not answer."""

    def __init__(self, figures):
        self.figures = figures
        self.off = set()

    def names(self):
        return sorted({tool for tool, _ in self.figures})

    async def views(self):
        targets = {n: [t for tool, t in self.figures if tool == n] for n in self.names()}
        return [SimpleNamespace(name=n, enabled=n not in self.off, targets=targets[n]) for n in self.names()]

    def tool(self, name):
        async def metrics(target):
            if self.figures[name, target] is None:
                raise ToolError(f"{name} does not answer")
            return self.figures[name, target]

        return SimpleNamespace(metrics=metrics)


@pytest.fixture
def clock(monkeypatch):
    """The clock of samples and of counter intervals."""
    fake = FakeClock()
    monkeypatch.setattr(managed_tools, "time", SimpleNamespace(monotonic=lambda: fake.now() / 1e9))
    return fake


async def _read(source, clock):
    clock.time += 5 * 10**9
    reading = await source.read()
    return reading, {str(k): v for k, v in zip(reading.keys, reading.values.tolist(), strict=True)}


CACHE = '{target="c1",tool="redis"}'


async def test_counters_become_rates_and_ratios(clock):
    """Gauges stay, counters become rates, and the hit ratio covers the interval."""
    box = MetricsToolbox({("redis", "c1"): {"redis_memory_used_bytes": 5.0, "redis_keyspace_hits_total": 10.0,
                                 "redis_keyspace_misses_total": 10.0}})  # fmt: skip
    source = ToolsSource(box, clock)
    _, first = await _read(source, clock)
    assert first[f"redis_memory_used_bytes{CACHE}"] == 5.0
    assert math.isnan(first[f"redis_hit_ratio{CACHE}"])
    box.figures["redis", "c1"] |= {"redis_keyspace_hits_total": 40.0, "redis_keyspace_misses_total": 20.0}
    reading, second = await _read(source, clock)
    assert second[f"redis_keyspace_hits_total{CACHE}"] == pytest.approx(6.0)
    assert second[f"redis_hit_ratio{CACHE}"] == pytest.approx(0.75)
    assert reading.complete
    hits = next(key for key in reading.keys if key.metric == "redis_keyspace_hits_total")
    assert (source.info(hits).kind, source.info(hits).unit) == ("rate", "1/s")


async def test_metric_labels_become_series_labels(clock):
    """Metric labels join tool and target; PostgreSQL counters are rates despite their names."""
    figures = {
        'pg_stat_activity_count{state="idle in transaction"}': 2.0,
        "pg_stat_database_xact_commit": 10.0,
    }
    box = MetricsToolbox({("pg", "db"): figures})
    source = ToolsSource(box, clock)
    await _read(source, clock)
    figures["pg_stat_database_xact_commit"] = 60.0
    _, values = await _read(source, clock)
    assert values['pg_stat_activity_count{state="idle in transaction",target="db",tool="pg"}'] == 2.0
    assert values['pg_stat_database_xact_commit{target="db",tool="pg"}'] == pytest.approx(10.0)


async def test_durations_become_their_mean(clock):
    """Seconds divided by observations give a mean duration; NaN without observations."""
    figures = {"http_request_duration_seconds_sum": 10.0, "http_request_duration_seconds_count": 100.0}
    source = ToolsSource(MetricsToolbox({("web", "web"): figures}), clock)
    await _read(source, clock)
    figures |= {"http_request_duration_seconds_sum": 12.0, "http_request_duration_seconds_count": 150.0}
    reading, values = await _read(source, clock)
    name = 'http_request_duration_mean_seconds{target="web",tool="web"}'
    assert values[name] == pytest.approx(0.04)
    key = next(key for key in reading.keys if str(key) == name)
    info = source.info(key)
    assert (info.kind, info.unit, find_role(key, info.unit, info.kind).role) == ("gauge", "s", Role.LATENCY)
    assert math.isnan((await _read(source, clock))[1][name])


async def test_no_traffic_is_no_hit_ratio(clock):
    """Without traffic the hit ratio is NaN, not 0."""
    counts = {"redis_keyspace_hits_total": 10.0, "redis_keyspace_misses_total": 10.0}
    source = ToolsSource(MetricsToolbox({("redis", "c1"): counts}), clock)
    await _read(source, clock)
    _, second = await _read(source, clock)
    assert math.isnan(second[f"redis_hit_ratio{CACHE}"])


async def test_a_tool_that_does_not_answer_is_unknown(clock):
    """The series of a silent tool are NaN, others continue, and the reading is incomplete."""
    box = MetricsToolbox({("a", "x"): {"up": 1.0}, ("b", "y"): {"up": 1.0}})
    source = ToolsSource(box, clock)
    await _read(source, clock)
    box.figures["b", "y"] = None
    reading, values = await _read(source, clock)
    assert not reading.complete
    assert values['up{target="x",tool="a"}'] == 1.0
    assert math.isnan(values['up{target="y",tool="b"}'])


async def test_no_answer_at_all_is_an_unknown_tick(clock):
    """Without any answer the source raises."""
    with pytest.raises(SourceError, match="no tool answers"):
        await ToolsSource(MetricsToolbox({("a", "x"): None}), clock).read()
    with pytest.raises(SourceError, match="none is configured"):
        await ToolsSource(MetricsToolbox({}), clock).open()


async def test_a_disabled_tool_is_unknown_not_absent(clock):
    """The series of a disabled tool stay as NaN in a complete reading."""
    box = MetricsToolbox({("redis", "c1"): {"x": 1.0}, ("pm2", "w"): {"y": 2.0}})
    source = ToolsSource(box, clock)
    before, _ = await _read(source, clock)
    del box.figures["redis", "c1"]
    reading, values = await _read(source, clock)
    assert reading.keys == before.keys
    assert reading.complete
    assert math.isnan(values[f"x{CACHE}"])
    assert source.detail().startswith("1 targets of 1 tools")


async def test_a_tool_disabled_before_a_restart_is_unknown(clock):
    """Its series exist as NaN after the start and continue once it is enabled."""
    box, memory = (
        MetricsToolbox({("redis", "c1"): {"redis_memory_used_bytes": 5.0, 'x{a="b"}': 1.0}}),
        FakeKeyValueStore(),
    )
    source = ToolsSource(box, clock, metric_names=memory)
    before, _ = await _read(source, clock)
    box.off.add("redis")
    await _read(source, clock)
    again = ToolsSource(box, clock, metric_names=memory)
    after, values = await _read(again, clock)
    assert after.keys == before.keys
    assert all(math.isnan(value) for value in values.values())
    assert after.complete
    box.off.clear()
    _, values = await _read(again, clock)
    assert values[f"redis_memory_used_bytes{CACHE}"] == 5.0


async def test_a_store_failure_is_logged(clock):
    """A failing store is logged, and the tools are still read."""
    box, memory = MetricsToolbox({("redis", "c1"): {"a": 5.0}, ("pg", "p"): {"b": 6.0}}), FakeKeyValueStore()
    memory.write_error = StoreError("disk full")
    source = ToolsSource(box, clock, metric_names=memory)
    await _read(source, clock)
    box.off.add("redis")
    _, values = await _read(source, clock)
    assert values['b{target="p",tool="pg"}'] == 6.0
