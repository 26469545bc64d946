"""Rows of the audit for what goes on at the door: logins, keys."""

import asyncio

from trimtab.engine.api.api_context import Context
from trimtab.engine.types import Value


def note(here: Context, what: str, subject: str, by: str, **details: Value) -> None:
    """Append a row; where there is no loop there is no audit. Blocks; raises StoreError."""
    if here.loop is not None:
        here.loop.ledger.note(what, subject, by, details)


async def noted(here: Context, what: str, subject: str, by: str, **details: Value) -> None:
    """As `note`, on the event loop."""
    await asyncio.to_thread(note, here, what, subject, by, **details)
