"""Which sources run, and how they change with the settings."""

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
def built(monkeypatch):
    """Every source that was built, as a fake of that name; one at port 1 cannot be built."""
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
    """Over fakes."""
    clock = FakeClock()
    around = LoopContext(
        clock,
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )
    return Supervisor(around, clock, FakeTickMetrics())


def make_settings(**sources):
    """Settings with these sources."""
    return Settings(sources=Sources(**sources))


async def test_sources_come_change_and_go(supervisor, built):
    """A source that is added starts, one that changed is exchanged, one that is gone is forgotten."""
    first = make_settings()
    supervisor.start(first)
    second = (
        await supervisor.apply_settings(first, make_settings(host=Host(interval=1), files=Files(paths=())))
    ).settings
    await settle()
    assert [source.name for source in built] == ["host", "host", "files"]
    assert built[0].closed == 1
    reload = await supervisor.apply_settings(second, make_settings(host=Host(enabled=False)))
    assert set(reload.changed) == {"sources.host", "sources.files"}
    assert supervisor.loops == {}
    assert supervisor.context.live.sources() == []
    await supervisor.stop()


async def test_a_source_that_cannot_be_built_changes_nothing(supervisor, built):
    """P17: settings that are valid and yet cannot be used leave everything as it was."""
    first = make_settings()
    supervisor.start(first)
    wanted = Settings(
        settings=General(false_alarms_per_week=9), sources=Sources(prometheus=Prometheus(url="bad"))
    )
    with pytest.raises(SettingsError, match="bad"):
        await supervisor.apply_settings(first, wanted)
    assert set(supervisor.loops) == {"host"}
    assert supervisor.context.general.false_alarms_per_week == 1.0
    assert built[0].closed == 0
    await supervisor.stop()


@pytest.mark.usefixtures("built")
async def test_a_prometheus_that_was_found_stays(supervisor):
    """A reload that names no Prometheus leaves the one that was found on this machine."""
    supervisor.found = Prometheus(url="http://localhost:9090")
    first = supervisor.with_found_prometheus(make_settings())
    supervisor.start(first)
    await supervisor.apply_settings(first, make_settings(host=Host(interval=1)))
    assert set(supervisor.loops) == {"host", "prometheus"}
    await supervisor.stop()


async def test_a_loop_that_fails_is_started_again(supervisor, built, monkeypatch):
    """A fault of ours stops one source for half a minute, and no other one."""
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
    assert built[0].opened == 1
    await supervisor.stop()


async def test_without_a_source_it_says_so(supervisor):
    """With every source disabled the engine is not ready, and says why."""
    supervisor.start(make_settings(host=Host(enabled=False)))
    assert supervisor.context.live.readiness()[1].startswith("a source")


async def test_a_source_beside_the_settings_comes_and_goes(supervisor, built):  # noqa: ARG001 - no real sources
    """As the figures of tools: with the first tool, without a second loop, away with the last."""
    plain = make_settings(host=Host(enabled=False))
    supervisor.start(plain)
    tools = FakeSource("tools")
    for _ in range(2):
        await supervisor.set_extra_source(tools, True)
        await settle()
    assert (list(supervisor.loops), tools.opened) == (["tools"], 1)
    assert (await supervisor.apply_settings(plain, plain)).changed == ()
    assert list(supervisor.loops) == ["tools"]
    for _ in range(2):
        await supervisor.set_extra_source(tools, False)
    assert (supervisor.loops, supervisor.always, tools.closed) == ({}, [], 1)
    assert supervisor.context.live.sources() == []
    await supervisor.stop()


async def test_others_go_on_with_changed_settings(supervisor, built):  # noqa: ARG001 - no real sources
    """Whoever follows is told of each change, with what is in force then."""
    told = []

    async def follow(reload):
        told.append(reload)

    supervisor.reload_listeners.append(follow)
    first = make_settings()
    supervisor.start(first)
    wanted = Settings.model_validate({"tools": {"redis": {"mode": "auto"}}, "guardrails": {"watch": 60}})
    reload = await supervisor.apply_settings(first, wanted)
    assert told == [reload]
    assert set(reload.changed) == {"tools", "guardrails"}
    assert reload.settings.tools["redis"].mode == "auto"
    assert reload.settings.guardrails.watch == 60.0
    await supervisor.stop()


class FakeIncidentService:
    """A judging that hears which sources there are."""

    def __init__(self):
        self.calls = []

    def only(self, sources, time):
        self.calls.append((set(sources), time))


async def test_what_was_open_of_a_source_that_is_gone_ends_at_the_start(supervisor):
    """A source that was taken out while the engine was off leaves nothing open for ever."""
    around = supervisor.context
    around.incident_service = FakeIncidentService()
    names = ("host", "files")
    stays, goes = (anomaly_of(SeriesKey.of(name, "m", {}), ulid(n)) for n, name in enumerate(names))
    for anomaly in (stays, goes):
        around.store.save_anomaly(anomaly)
    supervisor.loops = {"host": None}
    await supervisor.close_removed_sources()
    assert around.store.anomaly(stays.id).end is None
    ended = around.store.anomaly(goes.id)
    assert (ended.end, ended.reason) == (goes.peak_time, "source removed")
    assert around.incident_service.calls == [({"host"}, around.clock.now())]


async def test_a_store_that_fails_keeps_no_engine_from_starting(supervisor):
    """They stay open until the next start, and that is said."""

    def refuse(**_):
        raise StoreError("disk full")

    supervisor.context.store.anomalies = refuse
    with capture_logs() as logs:
        await supervisor.close_removed_sources()
    assert [entry["event"] for entry in logs] == ["anomalies of sources that are gone stay open"]


async def test_what_was_recorded_is_read_once_more_and_coarsely(supervisor, built):
    """Of each source that runs; one that still starts, or fails, is left out, and what is fine, too."""
    first = make_settings(files=Files(paths=()), prometheus=Prometheus(url="http://p:1"))
    supervisor.start(first)
    await settle()
    fake = {source.name: source for source in built}
    history = History(300.0, (), np.empty(0, np.int64), np.empty((0, 0)), coarse=True)
    fake["prometheus"].histories = [history, replace(history, coarse=False), replace(history, step_s=1.0)]
    fake["files"].histories = [history]
    supervisor.loops["files"].senses = None

    async def broken(_now):
        raise SourceError("it does not answer")
        yield

    fake["host"].history = broken
    with capture_logs() as logs:
        assert [one async for one in supervisor.context.read_history()] == [history]
    assert [line["source"] for line in logs] == ["host"]
    await supervisor.stop()
