"""The engine as a whole: failures of its components are noticed."""

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.fakes.fake_control_loop import FakeLedger
from tests.fakes.ports import FakeClock, settle
from trimtab.engine.actions.scheduler import ActionScheduler
from trimtab.engine.api.security.api_keys import FirstAccess
from trimtab.engine.errors import EngineError, LockedError, StoreError
from trimtab.engine.runtime import supervisor
from trimtab.engine.runtime.action_setup import audit_reload
from trimtab.engine.runtime.app import Engine, _apply_tool_settings, print_access
from trimtab.engine.runtime.http_server import HttpServer
from trimtab.engine.runtime.self_metrics import SelfMetrics
from trimtab.engine.runtime.supervisor import keep_running
from trimtab.engine.settings import Api, General, Host, Settings, Sources
from trimtab.engine.settings.file_watcher import SettingsChange


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Engine that serves its API on a free port and watches nothing."""

    async def nothing(_self, _supervisor):
        await asyncio.Event().wait()

    monkeypatch.setattr(Engine, "_start_sources", nothing)
    settings = Settings(
        settings=General(data_dir=tmp_path), api=Api(port=0), sources=Sources(host=Host(enabled=False))
    )
    return Engine(settings, None, os.environ, {})


@pytest.mark.parametrize(
    ("first", "ending"),
    [
        (FirstAccess(login_url="http://h/login?t=x"), "minutes): http://h/login?t=x"),
        (FirstAccess(key_file=Path("/d/admin.key")), "is in /d/admin.key"),
        (FirstAccess(), "`trimtab key login` prints"),
    ],
)
def test_a_start_prints_the_url_and_one_way_to_log_in(capsys, first, ending):
    """Every start prints two lines: the address, and one way to log in."""
    print_access("http://h", first)
    where, way_in = capsys.readouterr().out.splitlines()
    assert where == "Trimtab is on http://h"
    assert way_in.endswith(ending)


@pytest.mark.parametrize("broken", ["", "disk full"])
async def test_a_reload_is_in_the_audit(broken):
    """A reload is one audit row with changed and postponed sections; a failing store is logged only."""
    ledger = FakeLedger(FakeClock())
    ledger.broken = broken or None
    with capture_logs() as logs:
        await audit_reload(ledger, SettingsChange(Settings(), (), ()))
        await audit_reload(ledger, SettingsChange(Settings(), ("tools", "notify"), ("api",)))
    audited = [(row.what, row.actor, row.details) for row in ledger.rows]
    names = {"now": "tools, notify", "at the next start": "api"}
    assert audited == ([] if broken else [("settings reloaded", "trimtab", names)])
    assert len(logs) == bool(broken)


@pytest.mark.parametrize(
    ("error", "message"), [(OSError("no more files"), "OSError: no more files"), (None, "")]
)
async def test_the_engine_stops_when_its_http_server_ends(engine, monkeypatch, error, message):
    """When the HTTP server ends, the engine stops in order and reports the cause."""
    served = asyncio.Event()

    async def die(_self):
        await served.wait()
        if error is not None:
            raise error

    monkeypatch.setattr(HttpServer, "main_loop", die)
    running = asyncio.create_task(engine.run(lambda *_: served.set()))
    with pytest.raises(EngineError, match="the HTTP server ended while the engine was running") as caught:
        await asyncio.wait_for(running, 20)
    assert message in str(caught.value)


async def test_a_requested_stop_is_no_failure(engine):
    """A requested stop ends the engine without an error."""
    await asyncio.wait_for(engine.run(lambda *_: engine.stopping.set()), 20)


async def test_a_failed_task_is_restarted():
    """A failed task is logged by name and restarted after 30 s, as often as needed."""
    clock, runs = FakeClock(), []

    async def work():
        runs.append(clock.now())
        if len(runs) < 3:
            raise KeyError("surprise")

    with capture_logs() as logs:
        task = asyncio.create_task(keep_running("vitals", work, clock))
        await settle()
        await clock.advance(70)
    assert task.done()
    assert [(at - runs[0]) / 1e9 for at in runs] == [0, 30, 60]
    assert [(entry["task"], entry["event"]) for entry in logs] == [("vitals", "task_failed")] * 2


async def test_self_metrics_continue_after_a_failure(engine, monkeypatch):
    """The engine's own metrics are updated again after an unexpected error."""
    looks = []
    monkeypatch.setattr(supervisor, "RESTART_DELAY_S", 0.01)

    async def look(_self):
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("surprise")
        engine.stopping.set()

    monkeypatch.setattr(SelfMetrics, "update", look)
    await asyncio.wait_for(engine.run(lambda *_: None), 20)
    assert len(looks) == 2


async def test_the_engine_stops_when_another_engine_takes_over(engine, monkeypatch):
    """A LockedError stops the engine in order, once, with its reason."""

    async def step(_self, _now):
        raise LockedError("taken over by another engine (epoch 2)")

    monkeypatch.setattr(ActionScheduler, "step", step)
    with capture_logs() as logs, pytest.raises(LockedError, match="epoch 2"):
        await asyncio.wait_for(engine.run(lambda *_: None), 20)
    events = [entry["event"] for entry in logs]
    assert events.count("another_engine_took_over") == 1
    assert "task_failed" not in events
    assert events[-1] == "stopped"


class FakeReloadTarget:
    """Action components and supervisor, as far as a reload uses them."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    async def reload(self, settings):
        self.calls.append(("reload", sorted(settings.tools)))
        if self.error is not None:
            raise self.error

    async def set_extra_source(self, source, wanted):
        self.calls.append(("watch", source, wanted))


@pytest.mark.parametrize(
    ("changed", "tools", "error", "calls"),
    [
        (("tools",), {"redis": {}}, None, [("reload", ["redis"]), ("watch", "source", True)]),
        (("tools",), {}, None, [("reload", []), ("watch", "source", False)]),
        (("guardrails",), {}, None, [("reload", []), ("watch", "source", False)]),
        (("tools",), {}, StoreError("disk full"), [("reload", []), ("watch", "source", False)]),
        (("writer",), {"redis": {}}, None, []),
    ],
    ids=["first", "last", "guardrails", "store fails", "something else"],
)
async def test_tools_follow_the_settings(changed, tools, error, calls):
    """A reload replaces the tools and watches their metrics while any tool exists, also if a store fails."""
    target = FakeReloadTarget(error)
    reload = SettingsChange(Settings.model_validate({"tools": tools}), changed, ())
    await _apply_tool_settings(target, target, "source", reload)
    assert target.calls == calls
