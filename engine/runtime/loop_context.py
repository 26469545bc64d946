"""Ports and settings shared by all source loops."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.notifications.delivery import NotificationDelivery
from trimtab.engine.ports import Clock, ScoreLog, Sink, Snapshots, Store
from trimtab.engine.settings import General
from trimtab.engine.types import History, SourceState

P = ParamSpec("P")
T = TypeVar("T")


class TickMetrics(Protocol):
    """Metrics that the source loops report."""

    def observe_tick(self, source: str, seconds: float, lag_s: float, n: int) -> None:
        """Count a scored tick of `n` samples; `seconds` is its duration, `lag_s` its delay."""
        ...

    def set_series_counts(self, source: str, total: int, learning: int, unusual: int) -> None:
        """Report how many series of a source are shown, learning and unusual."""
        ...

    def set_source_state(self, name: str, state: SourceState) -> None:
        """Report the state of a source."""
        ...

    def set_wanted_replicas(self, name: str, wanted: int | None) -> None:
        """Report the wanted replicas of a capacity; None = unknown."""
        ...

    def remove_source(self, source: str) -> None:
        """Drop the metrics of a source that is no longer configured."""
        ...


@dataclass(slots=True)
class LoopContext:
    """Ports and settings of the source loops.

    worker : executor with one thread; all blocking and computing work runs there, so the API stays responsive
    """

    clock: Clock
    store: Store
    score_log: ScoreLog
    snapshots: Snapshots
    live: LiveState
    metrics: TickMetrics
    worker: Executor
    general: General = field(default_factory=General)
    sinks: list[Sink] = field(default_factory=list)
    incident_service: IncidentService | None = None
    """None = anomalies only, no incidents."""
    on_history: Callable[[History], None] | None = None
    """Called with each chunk of recorded history as it is read."""
    read_history: Callable[[], AsyncIterator[History]] | None = None
    """Reads the coarse history of all sources again."""
    notifications: NotificationDelivery | None = None
    """None = notifications go to the log only."""

    async def run_in_worker(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in the worker thread, with the log context of this task."""
        context = contextvars.copy_context()
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.worker, context.run, call)
