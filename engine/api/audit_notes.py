"""Rows of the audit for what goes on at the door: logins, keys."""

import asyncio

from trimtab.engine.api.api_context import ApiContext
from trimtab.engine.types import Value


def append_audit_row(here: ApiContext, what: str, subject: str, by: str, **details: Value) -> None:
    """Append a row; where there is no loop there is no audit. Blocks; raises StoreError."""
    if here.loop_ports is not None:
        here.loop_ports.ledger.append_audit(what, subject, by, details)


async def append_audit_row_async(
    here: ApiContext, what: str, subject: str, by: str, **details: Value
) -> None:
    """As `note`, on the event loop."""
    await asyncio.to_thread(append_audit_row, here, what, subject, by, **details)
