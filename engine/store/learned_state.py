"""Single values that outlive a restart, in the table `memory`, as JSON."""

import json
from typing import Any

import sqlalchemy as sa

from trimtab.engine.store import tables
from trimtab.engine.store.fenced_writes import FencedDatabase


class LearnedState:
    """Values by name, written under the lease. Raises StoreError, LockedError."""

    def __init__(self, fenced: FencedDatabase) -> None:
        self.fenced = fenced

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """What was set; None = nothing was."""
        query = sa.select(tables.memory.c.body).where(tables.memory.c.name == name)
        rows = self.fenced.fetch_rows(query)
        return json.loads(rows[0]["body"]) if rows else None

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Remember it; durable when it returns. Raises ValueError for what JSON cannot hold, NaN too."""
        self.fenced.save_rows(tables.memory, [{"name": name, "body": json.dumps(value, allow_nan=False)}])
