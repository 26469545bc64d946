"""The supervisor: which sources run, and how they follow the settings."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.builders.series import anomaly_of
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots, FakeSource, FakeStore, settle
from tests.unit.runtime.test_source_loop import FakeTickMetrics, ImmediateExecutor
from trimtab.engine.errors import SettingsError, SourceError, StoreError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime import components
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import SourceLoop
from trimtab.engine.runtime.supervisor import Supervisor
from trimtab.engine.settings import Files, General, Host, Prometheus, Settings, Sources
from trimtab.engine.types import History, SeriesKey


@pytest.fixture
def built_sources(monkeypatch):
    """Fake sources in the order they were built; a Prometheus with the URL "bad" cannot be built."""
    made = []

    def builder(name):
        def build(settings, _clock):
            part = getattr(settings.sources, name)
            if getattr(part, "url", "") == "bad":
                raise SettingsError("sources.prometheus.url is 'bad'")
            made.append(FakeSource(name))
            return made[-1]

        return build

    monkeypatch.setattr(
        components, "SOURCE_FACTORIES", {name: builder(name) for name in components.SOURCE_FACTORIES}
    )
    return made


@pytest.fixture
def supervisor():
    """Supervisor over fakes."""
    clock = FakeClock()
    context = LoopContext(
        clock,
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )
    return Supervisor(context, clock, FakeTickMetrics())


def make_settings(**sources):
    """Return settings with these sources."""
    return Settings(sources=Sources(**sources))


async def test_sources_follow_the_settings(supervisor, built_sources):
    """An added source starts, a changed one is replaced, a removed one is dropped."""
    first = make_settings()
    supervisor.start(first)
    second = (
        await supervisor.apply_settings(first, make_settings(host=Host(interval=1), files=Files(paths=())))
    ).settings
    await settle()
    assert [source.name for source in built_sources] == ["host", "host", "files"]
    assert built_sources[0].closed == 1
    reload = await supervisor.apply_settings(second, make_settings(host=Host(enabled=False)))
    assert set(reload.applied_now) == {"sources.host", "sources.files"}
    assert supervisor.loops == {}
    assert supervisor.context.live.sources() == []
    await supervisor.stop()


async def test_a_source_that_cannot_be_built_rejects_the_change(supervisor, built_sources):
    """P17: settings that are valid but unusable leave everything unchanged."""
    first = make_settings()
    supervisor.start(first)
    new_settings = Settings(
        settings=General(false_alarms_per_week=9), sources=Sources(prometheus=Prometheus(url="bad"))
    )
    with pytest.raises(SettingsError, match="bad"):
        await supervisor.apply_settings(first, new_settings)
    assert set(supervisor.loops) == {"host"}
    assert supervisor.context.general.false_alarms_per_week == 1.0
    assert built_sources[0].closed == 0
    await supervisor.stop()


@pytest.mark.usefixtures("built_sources")
async def test_a_found_prometheus_stays_after_a_reload(supervisor):
    """A reload without a Prometheus keeps the one found on this machine."""
    supervisor.found_prometheus = Prometheus(url="http://localhost:9090")
    first = supervisor.with_found_prometheus(make_settings())
    supervisor.start(first)
    await supervisor.apply_settings(first, make_settings(host=Host(interval=1)))
    assert set(supervisor.loops) == {"host", "prometheus"}
    await supervisor.stop()


async def test_a_failed_loop_is_restarted(supervisor, built_sources, monkeypatch):
    """A failed loop is restarted after 30 s, and other loops are unaffected."""
    runs, well = [], SourceLoop.run

    async def run(loop):
        if loop.source.name != "files":
            return await well(loop)
        runs.append(1)
        raise KeyError("surprise")

    monkeypatch.setattr(SourceLoop, "run", run)
    supervisor.start(make_settings(files=Files(paths=())))
    await asyncio.sleep(0)
    await supervisor.clock.advance(70)
    assert len(runs) == 3
    assert built_sources[0].opened == 1
    await supervisor.stop()


async def test_without_a_source_the_engine_is_not_ready(supervisor):
    """With every source disabled the engine is not ready and gives the reason."""
    supervisor.start(make_settings(host=Host(enabled=False)))
    assert supervisor.context.live.readiness()[1].startswith("a source")


async def test_an_extra_source_starts_and_stops(supervisor, built_sources):  # noqa: ARG001 - no real sources
    """An extra source starts once, survives a reload and can be stopped."""
    plain = make_settings(host=Host(enabled=False))
    supervisor.start(plain)
    tools = FakeSource("tools")
    for _ in range(2):
        await supervisor.set_extra_source(tools, True)
        await settle()
    assert (list(supervisor.loops), tools.opened) == (["tools"], 1)
    assert (await supervisor.apply_settings(plain, plain)).applied_now == ()
    assert list(supervisor.loops) == ["tools"]
    for _ in range(2):
        await supervisor.set_extra_source(tools, False)
    assert (supervisor.loops, supervisor.extra_sources, tools.closed) == ({}, [], 1)
    assert supervisor.context.live.sources() == []
    await supervisor.stop()


async def test_reload_listeners_get_each_change(supervisor, built_sources):  # noqa: ARG001 - no real sources
    """A reload listener is called with each change and the settings in force."""
    reloads = []

    async def follow(reload):
        reloads.append(reload)

    supervisor.reload_listeners.append(follow)
    first = make_settings()
    supervisor.start(first)
    new_settings = Settings.model_validate(
        {"tools": {"redis": {"mode": "auto"}}, "guardrails": {"watch": 60}}
    )
    reload = await supervisor.apply_settings(first, new_settings)
    assert reloads == [reload]
    assert set(reload.applied_now) == {"tools", "guardrails"}
    assert reload.settings.tools["redis"].mode == "auto"
    assert reload.settings.guardrails.watch == 60.0
    await supervisor.stop()


class FakeIncidentService:
    """Records which sources remain."""

    def __init__(self):
        self.calls = []

    def close_other_sources(self, sources, time):
        self.calls.append((set(sources), time))


async def test_anomalies_of_removed_sources_are_closed_at_the_start(supervisor):
    """Open anomalies of a source that was removed while the engine was off are closed at the start."""
    context = supervisor.context
    context.incident_service = FakeIncidentService()
    names = ("host", "files")
    kept, removed = (anomaly_of(SeriesKey.of(name, "m", {}), ulid(n)) for n, name in enumerate(names))
    for anomaly in (kept, removed):
        context.store.save_anomaly(anomaly)
    supervisor.loops = {"host": None}
    await supervisor.close_removed_sources()
    assert context.store.anomaly(kept.id).end is None
    ended = context.store.anomaly(removed.id)
    assert (ended.end, ended.reason) == (removed.peak_time, "source removed")
    assert context.incident_service.calls == [({"host"}, context.clock.now())]


async def test_a_failing_store_does_not_prevent_the_start(supervisor):
    """If the store fails, the anomalies stay open and a warning is logged."""

    def refuse(**_):
        raise StoreError("disk full")

    supervisor.context.store.anomalies = refuse
    with capture_logs() as logs:
        await supervisor.close_removed_sources()
    assert [entry["event"] for entry in logs] == ["removed_sources_not_closed"]


async def test_coarse_history_can_be_read_again(supervisor, built_sources):
    """The coarse history of each running source is read again; starting and failing sources are left out."""
    first = make_settings(files=Files(paths=()), prometheus=Prometheus(url="http://p:1"))
    supervisor.start(first)
    await settle()
    fake = {source.name: source for source in built_sources}
    history = History(300.0, (), np.empty(0, np.int64), np.empty((0, 0)), coarse=True)
    fake["prometheus"].histories = [history, replace(history, coarse=False), replace(history, step_s=1.0)]
    fake["files"].histories = [history]
    supervisor.loops["files"].detector = None

    async def broken(_now):
        raise SourceError("it does not answer")
        yield

    fake["host"].history = broken
    with capture_logs() as logs:
        assert [one async for one in supervisor.context.read_history()] == [history]
    assert [line["source"] for line in logs] == ["host"]
    await supervisor.stop()
