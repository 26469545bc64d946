"""A managed Redis whose CONFIG is missing or renamed, with the engine's action components."""

import re

import pytest

from tests.builders.engine_actions import EngineActions
from tests.fakes.ports import FakeClock, FakeScoreLog
from tests.servers.redis import start_redis
from trimtab.engine.settings import Settings
from trimtab.engine.types import ActionState, Mode, ToolState


@pytest.mark.parametrize("renamed", ["", "a-name-of-the-provider"])
async def test_changes_are_exported(tmp_path, renamed):
    """Mode auto has no effect: recommendations name the line to write, and changes are refused."""
    with start_redis(tmp_path / "r", "--rename-command", "CONFIG", renamed) as server:
        settings = Settings.model_validate(
            {
                "settings": {"data_dir": tmp_path / "data"},
                "tools": {"redis": {"url": server.url, "mode": "auto"}},
            }
        )
        stack = await EngineActions(settings, FakeClock(), FakeScoreLog()).start()
        try:
            (view,) = await stack.components.tools.views()
            assert view.status.state is ToolState.EXPORT_ONLY
            (advice,) = await stack.components.inbox_notices.update()
            assert (advice.title, advice.mode) == ("redis: memory has no limit", Mode.RECOMMEND)
            action = await stack.components.ports.decisions.set_knob(
                "redis", "redis", "hz", 10, 20, "ann", "key-1"
            )
            assert action.state is ActionState.FAILED
            assert re.search(r"nothing was changed.*hz 20", action.outcome.words)
            assert "configured_hz:10" in server.cli("INFO", "server")
        finally:
            await stack.stop()
