"""What a running engine does about its settings file."""

from pathlib import Path

from trimtab.engine.runtime.app import Engine
from trimtab.engine.settings import Settings


async def test_a_fault_in_following_the_settings_ends_no_engine(monkeypatch):
    """Where the file cannot be watched any more the engine goes on, and its status says so."""
    engine = Engine(Settings(), Path("trimtab.yaml"), {}, {})

    async def broken(*_):
        raise FileNotFoundError("the folder is gone")

    monkeypatch.setattr(engine, "_follow_settings", broken)
    await engine._watch_settings(None, engine.settings)
    assert not engine.stopping.is_set()
    assert engine.failure is None
    assert "not watched" in engine.live.engine_status()["settings"]
