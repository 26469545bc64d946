"""Learned state: single JSON values by name, in the table `memory`."""

import json
from typing import Any

import sqlalchemy as sa

from trimtab.engine.store import tables
from trimtab.engine.store.fenced_writes import FencedDatabase


class LearnedState:
    """Implementation of the KeyValueStore port on a SQL database. Raises StoreError, LockedError."""

    def __init__(self, fenced: FencedDatabase) -> None:
        self.fenced = fenced

    def get(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the stored value; None if there is none."""
        query = sa.select(tables.memory.c.body).where(tables.memory.c.name == name)
        rows = self.fenced.fetch_rows(query)
        return json.loads(rows[0]["body"]) if rows else None

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
        """Store a value durably. Raises ValueError for a value that JSON cannot represent, such as NaN."""
        self.fenced.save_rows(tables.memory, [{"name": name, "body": json.dumps(value, allow_nan=False)}])
