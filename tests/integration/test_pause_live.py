"""The kill switch of a running engine on a real Redis: no action starts later than a second after it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.acceptance.engine import EngineProcess, trimtab_up, unix_seconds
from tests.servers.prometheus import wait_for
from tests.servers.redis import RedisServer, start_redis

KNOB = "maxmemory-samples"
WITHIN_S = 1.0
SETTINGS: dict[str, Any] = {
    "sources": {"host": {"interval": "5s", "top_processes": 0}, "prometheus": {"enabled": False}},
    "guardrails": {"time_scale": 1e-5},  # so that changes can follow each other every second
}


class KnobToggler:
    """Changes a knob back and forth as fast as the engine allows, in a thread."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.action_ids: list[str] = []
        """Ids of actions that were started."""
        self.refusals: list[str] = []
        self._stop = threading.Event()

    def change(self, before: int, after: int) -> httpx.Response:
        """Request one change."""
        return httpx.put(
            f"{self.engine.url}/api/tools/redis/targets/redis/knobs/{KNOB}", timeout=40, trust_env=False,
            headers={"Authorization": f"Bearer {self.engine.key}"}, json={"before": before, "after": after},
        )  # fmt: skip

    def _toggle(self, value: int) -> None:
        while not self._stop.wait(0.05):
            after = 5 if value == 6 else 6
            answer = self.change(value, after)
            if answer.status_code == 201:
                self.action_ids.append(answer.json()["id"])
                value = after
            else:
                self.refusals.append(answer.text)

    @contextmanager
    def running(self, value: int) -> Iterator[None]:
        """Toggle the knob while the block runs."""
        thread = threading.Thread(target=self._toggle, args=(value,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)


def pause_by_api(engine: EngineProcess) -> None:
    """Pause with a request, as the button of the page does."""
    engine.request("POST", "pause", json={"reason": "a test"})


def pause_by_command(engine: EngineProcess) -> None:
    """Pause on the command line, next to the engine."""
    engine.run_command("pause", "--reason", "a test")


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    with start_redis(tmp_path / "redis") as server:
        yield server


def read_knob(redis: RedisServer) -> int:
    """Return the knob's value as the server reports it."""
    return int(redis.cli("CONFIG", "GET", KNOB).split()[-1])


def last_action_start(engine: EngineProcess) -> float:
    """Return the Unix time at which the newest action was sent."""
    return max(unix_seconds(action["started"]) for action in engine.list_all("actions") if action["started"])


def pause_while_toggling(
    engine: EngineProcess, redis: RedisServer, pause: Callable[[EngineProcess], None]
) -> str:
    """Pause during toggling; return the last action, which starts at most `WITHIN_S` after the pause."""
    toggler = KnobToggler(engine)
    with toggler.running(read_knob(redis)):
        wait_for(lambda: len(toggler.action_ids) >= 2, 60)
        requested_at = time.time()
        pause(engine)
        paused_at = unix_seconds(engine.get("pause")["since"])
        wait_for(lambda: sum("paused" in refusal for refusal in toggler.refusals) >= 10, 30)
    after_s = last_action_start(engine) - paused_at
    print(
        f"{pause.__name__}: paused after {paused_at - requested_at:.2f} s; "
        f"the last action began {after_s:+.2f} s after the pause"
    )
    assert after_s <= WITHIN_S
    return toggler.action_ids[-1]


def assert_nothing_starts(engine: EngineProcess, redis: RedisServer) -> None:
    """No action starts although changes are requested."""
    before, toggler = last_action_start(engine), KnobToggler(engine)
    with toggler.running(read_knob(redis)):
        wait_for(lambda: len(toggler.refusals) >= 20, 30)
    assert toggler.action_ids == []
    assert last_action_start(engine) == before


@pytest.mark.trials
def test_after_a_pause_only_rollbacks_start(tmp_path, redis):
    """A pause stops all actions within a second, also after a restart; rollbacks still work."""
    tool = {"kind": "redis", "url": redis.url, "targets": ["redis"], "trial": True, "mode": "auto"}
    with trimtab_up(tmp_path / "engine", SETTINGS | {"tools": {"redis": tool}}) as engine:
        last_action = pause_while_toggling(engine, redis, pause_by_api)
        engine.stop()
        engine.start_and_wait()
        assert engine.get("pause")["on"]
        assert_nothing_starts(engine, redis)
        action = engine.get(f"actions/{last_action}")
        undo = engine.request("POST", f"actions/{last_action}/rollback")
        assert (undo["state"], read_knob(redis)) == ("kept", action["before"])
        assert_nothing_starts(engine, redis)
        engine.run_command("resume")
        pause_while_toggling(engine, redis, pause_by_command)
        assert_nothing_starts(engine, redis)
        engine.run_command("audit", "verify")
