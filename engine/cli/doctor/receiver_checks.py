"""Checks of notification receivers for `trimtab doctor`. No notification is sent."""

import asyncio

from trimtab.engine.cli.doctor.doctor import Check, CheckState
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.ports import Notifier
from trimtab.engine.runtime import components
from trimtab.engine.settings import Settings
from trimtab.engine.settings.notify import Notify
from trimtab.engine.types import iso

_UNREACHABLE_REASONS = frozenset({"unreachable", "timeout", "busy"})


async def receiver_checks(settings: Settings) -> list[Check]:
    """Check every receiver concurrently, and find expired silences."""
    clock = SystemClock()
    receivers = components.build_notifiers(settings, clock)
    checks = await asyncio.gather(*(_check_receiver(receiver) for receiver in receivers))
    return [*checks, *silence_checks(settings.notify, clock.now())]


async def _check_receiver(receiver: Notifier) -> Check:
    name = f"notify.{receiver.name}"
    try:
        return Check(name, CheckState.OK, await receiver.probe())
    except NotDeliveredError as error:
        state = CheckState.UNREACHABLE if error.reason in _UNREACHABLE_REASONS else CheckState.FOUND
        return Check(name, state, str(error), "fix it; until then this receiver gets no notifications")
    finally:
        await receiver.close()


def silence_checks(notify: Notify, now: int) -> list[Check]:
    """Find expired silences. now : int64 ns UTC

    >>> silence_checks(Notify(), 0)
    []
    """
    return [
        Check(
            f"notify.silences.{name}",
            CheckState.FOUND,
            f"expired at {iso(round(silence.until.timestamp()) * 10**9)}",
            "remove it from trimtab.yaml; it no longer silences anything",
        )
        for name, silence in notify.silences.items()
        if silence.until.timestamp() * 1e9 <= now
    ]
