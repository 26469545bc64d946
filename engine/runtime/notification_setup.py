"""Builds notification delivery, and the handler for alerts received from other systems."""

from collections.abc import Awaitable, Callable, Sequence

from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.notifications.delivery import NotificationDelivery, NotificationMetrics
from trimtab.engine.runtime import components
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.settings import Settings
from trimtab.engine.store.fenced_writes import FencedDatabase
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.store.learned_state import LearnedState
from trimtab.engine.types import Alert


def build_notification_delivery(
    settings: Settings, context: LoopContext, fenced: FencedDatabase, metrics: NotificationMetrics
) -> NotificationDelivery:
    """Build the delivery of notifications; its problems are shown in the status."""

    def show_problems(problems: str) -> None:
        context.live.set_engine_values(notifications=problems or "ok")

    return NotificationDelivery(
        components.build_notifiers(settings, context.clock), LearnedState(fenced),
        IncidentStore(fenced).incident, context.clock, metrics, show_problems,
    )  # fmt: skip


def make_alert_handler(
    context: LoopContext, incident_service: IncidentService
) -> Callable[[Sequence[Alert], str], Awaitable[None]]:
    """Return a handler that passes received alerts to the incident service, in the worker thread."""

    async def handle_alerts(alerts: Sequence[Alert], _by: str) -> None:
        await context.run_in_worker(incident_service.record_alerts, alerts, context.clock.now())

    return handle_alerts
