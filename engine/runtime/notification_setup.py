"""Who is told of incidents, put together: receivers, and alerts of others that come in."""

from collections.abc import Awaitable, Callable, Sequence

from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.notifications.delivery import NoticeMetrics, Notifications
from trimtab.engine.runtime import components
from trimtab.engine.runtime.loop_context import Surroundings
from trimtab.engine.settings import Settings
from trimtab.engine.store.fenced_writes import Fenced
from trimtab.engine.store.incident_store import SqlIncidents
from trimtab.engine.store.learned_state import StoredMemory
from trimtab.engine.types import Alert


def notifications(
    settings: Settings, around: Surroundings, fenced: Fenced, metrics: NoticeMetrics
) -> Notifications:
    """Who brings notices to people; what is wrong with that stands on the status."""

    def show(problems: str) -> None:
        around.live.note(notifications=problems or "ok")

    return Notifications(
        components.notifiers(settings, around.clock), StoredMemory(fenced), SqlIncidents(fenced).incident,
        around.clock, metrics, show,
    )  # fmt: skip


def alerts_to(around: Surroundings, judging: Judging) -> Callable[[Sequence[Alert], str], Awaitable[None]]:
    """What is told of alerts of others: the sensing hears it, in the work thread."""

    async def take(alerts: Sequence[Alert], _by: str) -> None:
        await around.off_loop(judging.alerted, alerts, around.clock.now())

    return take
