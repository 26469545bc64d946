"""What every source's loop works with."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.notifications.delivery import NotificationDelivery
from trimtab.engine.ports import Clock, ScoreLog, Sink, Snapshots, Store
from trimtab.engine.settings import General
from trimtab.engine.types import History, SourceState

P = ParamSpec("P")
T = TypeVar("T")


class TickMetrics(Protocol):
    """Where the loops count."""

    def observe_tick(self, source: str, seconds: float, lag_s: float, n: int) -> None:
        """A tick was scored."""
        ...

    def set_series_counts(self, source: str, total: int, learning: int, unusual: int) -> None:
        """How many series a source has now."""
        ...

    def set_source_state(self, name: str, state: SourceState) -> None:
        """A source is in this state now."""
        ...

    def set_wanted_replicas(self, name: str, wanted: int | None) -> None:
        """What is wanted of a capacity; None = unknown."""
        ...

    def remove_source(self, source: str) -> None:
        """A source is watched no more."""
        ...


@dataclass(slots=True)
class LoopContext:
    """Ports and settings.

    work    : one thread, in which everything runs that blocks or computes, so that the API stays responsive
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
    incident_service: Judging | None = None
    """None = there are anomalies only, no incidents."""
    on_history: Callable[[History], None] | None = None
    """Told of what a source recorded before it was watched, as it is read."""
    read_history: Callable[[], AsyncIterator[History]] | None = None
    """Reads that once more, coarsely, of all sources."""
    notifications: NotificationDelivery | None = None
    """None = notices go to the log only."""

    async def run_in_worker(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the work thread, with the log context of this task."""
        context = contextvars.copy_context()
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.worker, context.run, call)
