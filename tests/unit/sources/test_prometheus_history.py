"""Prometheus history: chunks, grids, and agreement with live values."""

from itertools import pairwise

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.builders.series import SECOND
from tests.fakes.fake_prometheus import LABELS, FakePrometheus, run_scrapes, values_by_series
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Query
from trimtab.engine.sources.prometheus import history_reader
from trimtab.engine.sources.prometheus.history_reader import TickGrid, plan_history_queries
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata, make_plan

WINDOWS = {"season_window": 7200.0, "season_step": 300.0, "noise_window": 900.0}


@pytest.fixture
async def server():
    """A Prometheus with two hours of a gauge and a counter, scraped every 15 s."""
    server = FakePrometheus(FakeClock())
    server.metadata_by_metric = {
        "temperature": MetricMetadata("gauge"),
        "hits_total": MetricMetadata("counter"),
    }
    await run_scrapes(server, times=480, hits_total=30.0)
    return server


async def read_chunks(server, **settings):
    """All chunks of history, and the source."""
    source = server.make_source(**WINDOWS, **settings)
    await source.open()
    return [chunk async for chunk in source.history(server.clock.now())], source


def chunk_values(found, *, coarse):
    """Series -> values, with the chunks of one pass concatenated."""
    out = {}
    for chunk in (c for c in found if c.coarse == coarse):
        for i, key in enumerate(chunk.keys):
            out.setdefault(str(key), []).extend(chunk.values[:, i])
    return {name: np.array(values) for name, values in out.items()}


async def test_coarse_first_then_fine(server):
    """The coarse pass comes first on its own step, then the fine one on the step of live ticks."""
    found, source = await read_chunks(server)
    assert [chunk.coarse for chunk in found] == [True, False]
    assert [chunk.step_s for chunk in found] == [300.0, 15.0]
    assert [len(chunk.times) for chunk in found] == [24, 60]
    assert all((np.diff(chunk.times) == chunk.step_s * SECOND).all() for chunk in found)
    assert source.history_progress is None


@pytest.mark.parametrize("coarse", [True, False])
async def test_recorded_values_agree_with_live_ones(server, coarse):
    """Gauges are samples, counters rates per second, in both passes as in live reads."""
    found, source = await read_chunks(server)
    values = chunk_values(found, coarse=coarse)
    assert values.keys() == values_by_series(await source.read()).keys()
    rates = values[f"hits_total{LABELS}"]
    assert np.nanmin(rates) == np.nanmax(rates) == 2.0
    assert np.isnan(rates).sum() <= 2
    up = values[f"up{LABELS}"]
    assert set(up[~np.isnan(up)]) == {1.0}
    warmth = values[f"temperature{LABELS}"]
    assert (np.diff(warmth[~np.isnan(warmth)]) == (20 if coarse else 1)).all()


async def test_a_gap_in_the_recording_is_unknown(server):
    """A gap has neither values nor rates, and no rate spans it."""
    labels = next(k for k in server.series if dict(k)["__name__"] == "hits_total")
    samples = [(t, v) for t, v in server.series[labels] if not server.now_s - 600 < t < server.now_s - 400]
    server.series[labels] = samples
    fine = chunk_values((await read_chunks(server))[0], coarse=False)[f"hits_total{LABELS}"]
    assert np.isnan(fine).sum() >= 12
    assert set(fine[~np.isnan(fine)]) == {2.0}


async def test_a_series_without_recorded_data_is_a_column_of_nan(server):
    """A watched series without history is a column of NaN."""
    server.metadata_by_metric["fresh"] = MetricMetadata("gauge")
    server.add_sample("fresh", 1.0)
    found, _ = await read_chunks(server)
    assert np.isnan(chunk_values(found, coarse=True)[f"fresh{LABELS}"][:-1]).all()


async def test_a_chunk_that_fails_is_skipped_and_counted(server, monkeypatch):
    """A failed chunk is skipped with a warning; the others are read."""
    monkeypatch.setattr(history_reader, "POINTS_PER_QUERY", 30)
    server.failing_history = {"temperature"}
    with capture_logs() as logs:
        found, _ = await read_chunks(server)
    assert f"hits_total{LABELS}" in chunk_values(found, coarse=True)
    assert f"temperature{LABELS}" not in chunk_values(found, coarse=True)
    skipped = [entry for entry in logs if "skipped" in entry]
    assert skipped
    assert skipped[-1]["skipped"] == len(skipped)


async def test_five_failures_in_a_row_end_the_history(server, monkeypatch):
    """After five failures in a row no more queries are sent."""
    monkeypatch.setattr(history_reader, "POINTS_PER_QUERY", 10)
    server.failing_history = {"__name__"}
    with capture_logs() as logs:
        found, source = await read_chunks(server)
    assert found == []
    assert sum("skipped" in entry for entry in logs) == 5
    assert any(entry["event"] == "history_read_aborted" for entry in logs)
    assert source.history_progress is None


async def test_the_cost_is_logged_first(server):
    """The number of series, points and queries is logged before the first query."""
    with capture_logs() as logs:
        await read_chunks(server)
    cost = next(entry for entry in logs if entry["event"] == "history_read_started")
    assert (cost["series"], cost["points"], cost["queries"]) == (3, 3 * (24 + 60), 2)


async def test_chunk_size_does_not_change_values(server, monkeypatch):
    """The size of the chunks changes no value."""
    large, _ = await read_chunks(server)
    monkeypatch.setattr(history_reader, "POINTS_PER_QUERY", 25)
    small, _ = await read_chunks(server)
    assert len(small) > len(large)
    for coarse in (True, False):
        whole, parts = chunk_values(large, coarse=coarse), chunk_values(small, coarse=coarse)
        assert whole.keys() == parts.keys()
        for name in whole:
            same = whole[name] == parts[name]
            unknown = np.isnan(whole[name]) | np.isnan(parts[name])
            assert (same | unknown).all()
            assert unknown.sum() <= 4, name  # the rate before a gap is unknown; a chunk border is a gap


async def test_history_of_a_query(server):
    """A user query is read over the same windows, as its own series."""
    server.query_range = only_query(server.query_range, "max(x)")
    server.query_results["max(x)"] = {
        "resultType": "vector",
        "result": [{"metric": {}, "value": [server.now_s, "1"]}],
    }
    found, _ = await read_chunks(server, queries={"top": Query(expr="max(x)", data_range=(0, 5))})
    top = chunk_values(found, coarse=True)['top{for="top"}']
    assert np.nanmax(top) == 5.0
    assert np.isnan(top[6:]).all()


async def test_history_of_a_query_is_capped(server):
    """Watched series have history; other recorded ones only up to the cap."""
    ranges = server.query_range

    def query_range(query, start, end, step_s):
        if query != "q":
            return ranges(query, start, end, step_s)
        values = [[end / SECOND, "1"]]
        return [{"metric": {"p": str(i)}, "values": values} for i in range(9)]

    server.query_range = query_range
    watched = [{"metric": {"p": p}, "value": [server.now_s, "1"]} for p in ("8", "7")]
    server.query_results["q"] = {"resultType": "vector", "result": watched}
    with capture_logs() as logs:
        found, _ = await read_chunks(server, max_series=3, queries={"q": Query(expr="q")})
    names = {str(key) for chunk in found for key in chunk.keys if key.metric == "q"}
    assert names == {f'q{{for="q",p="{p}"}}' for p in "078"}
    warnings = [entry for entry in logs if entry["event"] == "query_history_over_cap"]
    assert warnings[0]["series_left_out"] == 6


def only_query(ranges, expr):
    """Ranges in which the values of one expression count up from 0."""

    def query_range(query, start, end, step_s):
        if query != expr:
            return ranges(query, start, end, step_s)
        times = range(start, end + 1, round(step_s * SECOND))
        return [{"metric": {}, "values": [[at / SECOND, str(i)] for i, at in enumerate(times)]}]

    return query_range


def test_queries_stay_within_the_limits():
    """Chunks stay below the limits of points and steps, and cover everything."""
    counts = {"big": 5000, **{f"m{i:03}": 7 for i in range(50)}}
    plan = make_plan(counts, dict.fromkeys(counts, 15.0), {}, 20_000)
    grid = TickGrid.ending_at(1_800_000_000 * SECOND, 14 * 86_400, 60)
    jobs = plan_history_queries(plan, {"q": 1}, grid, coarse=True, limit=200_000)
    assert all(job.points <= 200_000 and len(job.grid) <= 10_000 for job in jobs)
    for name in [("big",), *{job.names for job in jobs if "m000" in job.names}, ()]:
        parts = [job.grid for job in jobs if job.names == name]
        assert (parts[0].start, parts[-1].end) == (grid.start, grid.end)
        assert all(a.end == b.start for a, b in pairwise(parts))


async def test_history_that_cannot_start(server):
    """An error while the API is opened is raised."""
    source = server.make_source(**WINDOWS)
    await source.open()

    def fail():
        raise SourceError("no")

    source._connect_api = fail
    with pytest.raises(SourceError):
        await anext(source.history(server.clock.now()))
