"""The settings file of a running engine."""

from pathlib import Path

from trimtab.engine.runtime.app import Engine
from trimtab.engine.settings import Settings


async def test_a_failing_settings_watch_does_not_stop_the_engine(monkeypatch):
    """If the settings file can no longer be watched, the engine continues and its status says so."""
    engine = Engine(Settings(), Path("trimtab.yaml"), {}, {})

    async def broken(*_):
        raise FileNotFoundError("the folder is gone")

    monkeypatch.setattr(engine, "_follow_settings", broken)
    await engine._watch_settings(None, engine.settings)
    assert not engine.stopping.is_set()
    assert engine.failure is None
    assert "no longer watched" in engine.live.engine_status()["settings"]
