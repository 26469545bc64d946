"""Action components as the engine builds them, with a real store, a fake cache and a fake clock."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.builders.action_stack import wait_until
from tests.builders.series import SECOND, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_tools import FakeTool
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots
from tests.unit.runtime.test_source_loop import FakeTickMetrics, ImmediateExecutor
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime import action_setup
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.settings import Settings
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.store import open_store
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.types import (
    History,
    Incident,
    IncidentState,
    Knob,
    KnobType,
    MemoryOutlook,
    PatternMatch,
    SeriesInfo,
    SeriesKey,
    Severity,
    SourceState,
    SourceStatus,
)

MIB = 2**20
INTERVAL_S = 5.0
LABELS = {"tool": "cache-1", "target": "cache-1"}
HIT_RATIO = SeriesKey.of("tools", "redis_hit_ratio", LABELS)
LATENCY = SeriesKey.of("tools", "http_request_duration_seconds_p99", {**LABELS, "job": "shop"})
MAXMEMORY = Knob(
    "maxmemory", KnobType.INT, "B", low=MIB, high=256 * MIB, step=64 * MIB, warm_up_s=60, group="memory"
)
POLICY = Knob("maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "noeviction"))
CACHE_THRASH = PatternMatch(
    "cache_thrash", "redis/cache-1", 0.9, 0, ("evictions rose",), (HIT_RATIO.id,), ("redis.maxmemory",)
)


class FakeCache(FakeTool):
    """A cache of 64 MiB; `made` holds each one that was built, by name, the newest last."""

    made: ClassVar[dict[str, list["FakeCache"]]] = {}
    memory: ClassVar[dict[tuple[str, str], Any]] = {}
    """Knob values, which outlive the tool instance like those of a real server."""

    def __init__(self, name: str, settings: ToolSettings) -> None:
        values = {"maxmemory": 64 * MIB, "maxmemory-policy": "allkeys-lru"}
        super().__init__(
            name, settings.targets_of(name), trial=settings.trial, knobs=(MAXMEMORY, POLICY), values=values,
            actions=(), metrics={"redis_memory_used_bytes": 64.0 * MIB},
        )  # fmt: skip
        for at, value in self.values.items():
            self.memory.setdefault(at, value)
        self.values = self.memory
        self.explicitly_set = set(self.values)
        self.made.setdefault(name, []).append(self)

    async def outlook(self, target: str, knob: str, after: Any) -> MemoryOutlook | None:  # noqa: ARG002 - the port's
        return MemoryOutlook(16.0 * 2**30, (("data", float(after)),)) if knob == "maxmemory" else None


def make_settings(folder: Path, mode: str = "auto", **tools: Any) -> Settings:
    """Return settings with one trial cache and guard durations scaled to a tenth."""
    cache = {"kind": "redis", "url": "redis://localhost:1", "trial": True, "mode": mode}
    return Settings.model_validate(
        {
            "settings": {"data_dir": folder},
            "guardrails": {"time_scale": 0.1},
            "tools": {"cache-1": cache, **tools},
        }
    )


class EngineActions:
    """The action components of an engine, and helpers to drive them."""

    def __init__(self, settings: Settings, clock: FakeClock, scores: FakeScoreLog) -> None:
        self.settings, self.clock, self.scores = settings, clock, scores
        self.live = LiveState()
        self.hit_ratio, self.latency = 0.4, 0.1
        self.work: asyncio.Task[None] | None = None
        self.history_reads = 0
        """Number of times the recorded history was read again."""

    async def start(self) -> "EngineActions":
        """Build the components as the engine does."""
        self.store = open_store(self.settings.settings.data_dir, self.clock.now)
        self.live.set_source_status(SourceStatus("tools", SourceState.UP, INTERVAL_S))
        context = LoopContext(
            self.clock, self.store, self.scores, FakeSnapshots(), self.live, FakeTickMetrics(),
            ImmediateExecutor(),
            read_history=self._recorded,
        )  # fmt: skip
        self.incident_service = action_setup.build_incident_service(self.settings, self.store)
        self.components = await action_setup.build_action_components(
            self.settings, context, self.incident_service, self.store.fenced
        )
        self.ledger, self.incidents = self.components.scheduler.ledger, self.components.ports.incidents
        return self

    async def _recorded(self) -> AsyncIterator[History]:
        self.history_reads += 1
        empty: tuple[History, ...] = ()
        for history in empty:
            yield history

    def run(self) -> None:
        """Run the components in a task."""
        self.work = asyncio.create_task(self.components.run())

    async def stop(self) -> None:
        """Stop the components and close the store."""
        if self.work is not None:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)
        await self.components.close()
        self.store.close()

    def sample(self) -> None:
        """Publish one tick of the metrics."""
        keys, now = (HIT_RATIO, LATENCY), self.clock.now()
        values = [self.hit_ratio, self.latency]
        scores = tick_scores("tools", now, values, yhat_lower=[0.3, 0.05], yhat_upper=[0.95, 0.15])
        tick_result = TickResult(
            keys, scores, (), np.empty(0, np.int64), np.zeros(2, np.int64), np.ones(2, np.bool_), {},
            complete=True,
        )  # fmt: skip
        self.live.publish_tick(tick_result, INTERVAL_S, (), SeriesInfo)
        self.scores.append(keys, scores)

    def add_history(self, seconds: float = 700.0) -> None:
        """Add samples up to now."""
        self.clock.time -= round(seconds * SECOND)
        for _ in range(round(seconds / INTERVAL_S)):
            self.clock.time += round(INTERVAL_S * SECOND)
            self.sample()

    def save_incident(self, **changed: Any) -> Incident:
        """Store an open incident of the cache with the pattern cache_thrash."""
        defaults = {
            "id": ulid(900), "start": self.clock.now(), "end": None, "state": IncidentState.OPEN,
            "title": "cache-1", "severity": 0.6, "level": Severity.HIGH, "user_facing": False, "mass": False,
            "entities": ("redis/cache-1",), "anomaly_ids": (ulid(901),), "patterns": (CACHE_THRASH,),
        }  # fmt: skip
        made = Incident(**{**defaults, **changed})
        self.incidents.save_incidents([made])
        return made

    async def run_for(self, seconds: float) -> None:
        """Advance the clock in steps of 1 s, with a sample every 5 s."""
        for _ in range(round(seconds)):
            self.clock.tick(1.0)
            if self.clock.now() // SECOND % 5 == 0:
                self.sample()
            await self.wait_until_idle()

    async def wait_until_idle(self, sleepers: int = 4) -> None:
        """Wait until every task waits for the clock or has ended."""
        assert self.work is not None
        work, running = self.work, self.components.scheduler._tasks
        async with asyncio.timeout(30):
            await wait_until(lambda: work.done() or (self.clock.sleepers >= sleepers and not running))


@contextmanager
def fake_caches(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Iterator[None]:
    """Replace the catalogue's Redis by FakeCache and the monotonic clock by the test's clock."""
    monkeypatch.setitem(tool_catalogue.TOOLS, "redis", "tests.builders.engine_actions:FakeCache")
    monkeypatch.setattr(action_setup, "time", type("T", (), {"monotonic_ns": staticmethod(clock.now)}))
    FakeCache.made, FakeCache.memory = {}, {}
    yield
    FakeCache.made, FakeCache.memory = {}, {}


@asynccontextmanager
async def engine_with_history(
    folder: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock | None = None
) -> AsyncIterator[EngineActions]:
    """Yield components with a history of samples and no incident; not running yet."""
    clock = clock or FakeClock()
    with fake_caches(monkeypatch, clock):
        made = await EngineActions(make_settings(folder), clock, FakeScoreLog()).start()
        made.add_history()
        yield made
        await made.stop()
