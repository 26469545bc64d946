"""The live state: search, order, pages, events."""

import asyncio
import time

import numpy as np
import pytest

from tests.builders.series import anomaly_of, tick_scores
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import InputError, NotFoundError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.types import SeriesInfo, SeriesKey, SourceState, SourceStatus

NAN = float("nan")


def make_tick_result(
    keys,
    scores,
    values=None,
    *,
    source="host",
    at=5,
    visible=None,
    learning_ticks=None,
    open_ids=None,
    complete=True,
):
    """Return a processed tick of the keys."""
    n = len(keys)
    values = [1.0] * n if values is None else values
    ticked = tick_scores(source, at * 1_000_000_000, values, anomaly_score=scores, yhat=[0.5] * n)
    return TickResult(
        keys=keys, scores=ticked, anomalies=(), new_slots=np.empty(0, np.int64),
        learning_ticks=np.array(learning_ticks or [0] * n),
        visible=np.array([True] * n if visible is None else visible),
        open_ids=open_ids or {}, complete=complete,
    )  # fmt: skip


def publish_ticks(live, *ticks):
    """Publish the ticks."""
    for tick in ticks:
        live.publish_tick(tick, 5.0, ("range", "shift"), info_in_seconds)


def info_in_seconds(key):
    """Return the info of a series in seconds."""
    return SeriesInfo(key, unit="s")


@pytest.fixture
def cores():
    """Twelve series."""
    return tuple(SeriesKey.of("host", "cpu_busy_ratio", {"core": str(i), "mode": "user"}) for i in range(12))


def read_all_pages(live, **asked):
    """Return the names of all pages, page by page."""
    after, names = None, []
    while True:
        page, total, after = live.series_page(after=after, **asked)
        names += [view.series for view in page]
        if after is None:
            assert total == len(names)
            return names


def test_views_show_what_is_known(cores):
    """A view has score, value, unit and anomaly; unknown is None; the learning time is in seconds."""
    live = LiveState()
    publish_ticks(
        live, make_tick_result(cores[:2], [1.5, NAN], [3.0, NAN], learning_ticks=[0, 7], open_ids={0: "X"})
    )
    first, second = live.series_by_id(cores[0].id), live.series_by_id(cores[1].id)
    assert (first.anomaly_score, first.value, first.unit, first.anomaly_id) == (1.5, 3.0, "s", "X")
    assert (second.anomaly_score, second.value, second.learning_s, second.time) == (None, None, 35.0, None)
    with pytest.raises(NotFoundError):
        live.series_by_id("none")


def test_the_time_is_that_of_the_newest_sample(cores):
    """A tick without a sample keeps the time of the last sample."""
    live = LiveState()
    publish_ticks(
        live, make_tick_result(cores[:1], [0.1], at=5), make_tick_result(cores[:1], [NAN], [NAN], at=10)
    )
    view = live.series_by_id(cores[0].id)
    assert (view.time, view.value) == (5_000_000_000, None)


def test_search_by_words_and_labels(cores):
    """All words and label=value pairs must match, ignoring case."""
    live = LiveState()
    other = (SeriesKey.of("prometheus", "up", {"job": "Node", "xcore": "1"}),)
    publish_ticks(
        live, make_tick_result(cores, [0.1] * 12), make_tick_result(other, [0.2], source="prometheus")
    )

    def found(search, **more):
        return [view.series for view in live.series_page(search=search, sort="name", **more)[0]]

    assert found("core=1") == [str(cores[1])]
    assert found('BUSY core="11"') == [str(cores[11])]
    assert found("job=node") == [str(other[0])]
    assert found("cpu job=node") == []
    assert len(found("cpu mode=user")) == 12
    assert len(found("", source="host")) == 12
    assert found("up") == [str(other[0])]


def test_pages_by_score_are_complete_and_in_order(cores):
    """Pages by score hold every series once: highest first, unknown last, equal scores by name."""
    live = LiveState()
    scores = [0.1, 2.0, NAN, 0.5, 0.5, NAN, 1.0, 0.0, 0.5, 3.0, 0.2, 0.3]
    publish_ticks(live, make_tick_result(cores, scores), make_tick_result(cores, scores, source="other"))
    ranked = read_all_pages(live, limit=5)
    by_name = {str(key): score for key, score in zip(cores, scores, strict=True)}
    shown = [by_name[name] for name in ranked]
    known = [s for s in shown if s == s]
    assert known == sorted(known, reverse=True)
    assert all(s != s for s in shown[len(known) :])
    assert len(ranked) == 24


def test_pages_by_name_are_sorted(cores):
    """Pages by name are sorted by name."""
    live = LiveState()
    publish_ticks(live, make_tick_result(cores, [0.1] * 12))
    names = read_all_pages(live, limit=5, sort="name")
    assert names == sorted(str(key) for key in cores)


def test_a_cursor_stays_valid_when_scores_change(cores):
    """A cursor stays valid when the series it was made from is gone."""
    live = LiveState()
    publish_ticks(live, make_tick_result(cores, [float(i) for i in range(12)]))
    page, _, after = live.series_page(limit=4)
    assert [view.anomaly_score for view in page] == [11.0, 10.0, 9.0, 8.0]
    publish_ticks(
        live, make_tick_result(cores, [float(i) for i in range(12)], visible=[i != 8 for i in range(12)])
    )
    assert [view.anomaly_score for view in live.series_page(limit=4, after=after)[0]] == [7.0, 6.0, 5.0, 4.0]


def test_a_removed_series_is_not_listed(cores):
    """A removed series is not listed, but can still be read by id."""
    live = LiveState()
    publish_ticks(live, make_tick_result(cores[:2], [0.1, NAN], [1.0, NAN], visible=[True, False]))
    assert [view.id for view in live.series_page()[0]] == [cores[0].id]
    assert live.series_by_id(cores[1].id).value is None


def test_a_series_without_a_slot_is_read_from_the_store(cores):
    """A series that has no slot any more is returned with name and unit from the store."""
    live = LiveState()
    live.find_stored_series = {cores[5].id: SeriesInfo(cores[5], unit="s")}.__getitem__
    view = live.series_by_id(cores[5].id)
    assert (view.series, view.unit, view.value, view.anomaly_id) == (str(cores[5]), "s", None, None)


def test_a_reused_slot_shows_its_new_series(cores):
    """After a slot is reused, names and search follow the new series."""
    live = LiveState()
    new = SeriesKey.of("host", "disk_free_bytes")
    publish_ticks(
        live, make_tick_result(cores[:2], [0.1, 0.2]), make_tick_result((cores[0], new), [0.1, 0.2], at=10)
    )
    assert live.series_page(search="disk")[0][0].id == new.id
    assert live.series_page(search="core=1")[1] == 0


@pytest.mark.parametrize("asked", [{"sort": "colour"}, {"after": "!!"}, {"after": "WzFd"}])
def test_an_unknown_order_or_cursor_is_refused(asked):
    """An unknown order or an invalid cursor raises InputError."""
    with pytest.raises(InputError):
        LiveState().series_page(**asked)


def test_the_engine_status_counts_series_and_anomalies(cores):
    """The engine status counts series, learning and unusual ones, and open anomalies."""
    live = LiveState()
    live.set_engine_values(ticks=3, uptime_s=1.5)
    publish_ticks(
        live, make_tick_result(cores[:3], [2.0, 0.1, NAN], learning_ticks=[0, 0, 5], open_ids={0: "X"})
    )
    numbers = live.engine_status()
    expected = {"series": 3, "scored": 2, "learning": 1, "unusual": 1, "anomalies_open": 1, "ticks": 3}
    assert {name: numbers[name] for name in expected} == expected
    assert [view.id for view in live.unusual_series()] == [cores[0].id]


async def test_events_reach_every_reader(cores):
    """Ticks, anomalies and changed sources reach every open subscription."""
    live = LiveState()
    one, two = live.subscribe(), live.subscribe()
    await two.aclose()
    live.set_source_status(SourceStatus("host", SourceState.STARTING, 5.0))
    live.set_source_status(SourceStatus("host", SourceState.STARTING, 5.0))
    publish_ticks(
        live, make_tick_result(cores, [0.1] * 12), make_tick_result(cores, [NAN] * 12, complete=False)
    )
    live.publish_anomaly(anomaly_of(cores[0], "01A"))
    live.end_subscriptions()
    events = [event async for event in one]
    assert [name for name, _ in events] == ["source", "tick", "anomaly"]
    assert events[1][1] == {"source": "host", "time": 5_000_000_000, "series": 12, "unusual": 0}
    assert not two._events


async def test_a_slow_reader_loses_the_oldest_ticks_first(cores):
    """A full queue drops ticks before anomalies and counts them."""
    live = LiveState()
    reader = live.subscribe()
    live.publish_anomaly(anomaly_of(cores[0], "01A"))
    for at in range(5, 5 + 5 * 300, 5):
        publish_ticks(live, make_tick_result(cores, [0.1] * 12, at=at))
    name, _ = await asyncio.wait_for(anext(reader), 5)
    assert name == "anomaly"
    _, tick = await asyncio.wait_for(anext(reader), 5)
    assert tick["time"] > 5_000_000_000
    assert reader.dropped_count == 101


def test_a_search_over_20000_series_is_fast():
    """A first search over 20,000 series takes less than a tenth of a second."""
    keys = tuple(
        SeriesKey.of("p", f"metric_{i % 200}", {"instance": f"10.0.{i // 250}.{i % 250}:9100", "job": "node"})
        for i in range(20_000)
    )
    live = LiveState()
    publish_ticks(live, make_tick_result(keys, np.random.default_rng(1).random(20_000).tolist(), source="p"))
    begin = time.process_time()
    page, total, after = live.series_page(search="metric_7 job=node", limit=50)
    live.series_page(limit=50, after=after)
    took = time.process_time() - begin
    assert total == 1100
    assert len(page) == 50
    assert took < 0.1


def test_a_replaced_source_shows_its_own_interval_and_units(cores):
    """After a reload the new interval, units and series are shown."""
    live = LiveState()
    publish_ticks(live, make_tick_result(cores, [0.1] * 12))
    live.publish_tick(
        make_tick_result(cores[:2], [0.2, 0.3], learning_ticks=[0, 7]),
        2.0,
        ("range",),
        lambda key: SeriesInfo(key, unit="B"),
    )
    assert (live.series_by_id(cores[1].id).learning_s, live.series_by_id(cores[1].id).unit) == (14.0, "B")
    assert live.series_page(search="cpu")[1] == 2
    with pytest.raises(NotFoundError):
        live.series_by_id(cores[5].id)
