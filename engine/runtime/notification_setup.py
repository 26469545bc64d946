"""Builds notification delivery, and the handler for alerts received from other systems."""

from collections.abc import Awaitable, Callable, Sequence

from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.notifications.delivery import NotificationDelivery, NotificationMetrics
from trimtab.engine.runtime import components
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.settings import Settings
from trimtab.engine.store.fenced_writes import FencedDatabase
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.store.learned_state import LearnedState
from trimtab.engine.types import Alert


def build_notification_delivery(
    settings: Settings, around: LoopContext, fenced: FencedDatabase, metrics: NotificationMetrics
) -> NotificationDelivery:
    """Build the delivery of notifications; its problems are shown in the status."""

    def show(problems: str) -> None:
        around.live.set_engine_values(notifications=problems or "ok")

    return NotificationDelivery(
        components.build_notifiers(settings, around.clock), LearnedState(fenced), IncidentStore(fenced).incident,
        around.clock, metrics, show,
    )  # fmt: skip


def make_alert_handler(
    around: LoopContext, judging: Judging
) -> Callable[[Sequence[Alert], str], Awaitable[None]]:
    """Return a handler that passes received alerts to the incident service, in the worker thread."""

    async def take(alerts: Sequence[Alert], _by: str) -> None:
        await around.run_in_worker(judging.alerted, alerts, around.clock.now())

    return take
