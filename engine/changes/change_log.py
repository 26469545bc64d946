"""Recent change events, and the ones near an incident."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trimtab.engine.types import Change, ChangeKind
from trimtab.engine.types.ids import derived_ulid

LOOKBACK_NS = 1_800_000_000_000
"""A change may have caused an incident that starts up to this long after it."""
RESTART_DEDUP_NS = 60_000_000_000
"""Restarts of one entity closer than this are one restart."""
MAX_CHANGES = 1000
_IDENTITY_LABELS = ("instance", "pod", "name", "service", "app", "job", "namespace", "host", "node")
"""Labels that a restart event copies from the series that shows it."""


class ChangeLog:
    """The newest change events, at most `MAX_CHANGES`."""

    def __init__(self) -> None:
        self.recent: dict[str, Change] = {}
        self.revision = 0
        """Increases with each added change."""
        self._restarts: dict[str, int] = {}
        self._lasting: dict[str, tuple[int, tuple[str, ...]]] = {}
        """Id of a change with a duration -> (its end, int64 ns; entities concerned)."""

    def add(self, change: Change) -> None:
        """Insert or replace a change."""
        self.recent[change.id] = change
        self.revision += 1
        while len(self.recent) > MAX_CHANGES:
            self.recent.pop(min(self.recent, key=lambda change_id: self.recent[change_id].time))

    def extend(self, change_id: str, until: int, entities: Sequence[str] = ()) -> None:
        """Set the end (int64 ns) and entities of a change, which may be added before or after."""
        self._lasting.pop(change_id, None)
        self._lasting[change_id] = until, tuple(entities)
        while len(self._lasting) > MAX_CHANGES:
            self._lasting.pop(next(iter(self._lasting)))

    def add_restart(self, time: int, labels: Mapping[str, str], what: str) -> Change | None:
        """Add and return the change event of a restart; None if the entity's restart was added just before.

        what : name of the restarted entity for the title, for example "redis/cache-1"
        """
        previous = self._restarts.get(what)
        self._restarts[what] = max(time, previous or time)
        if previous is not None and time - previous < RESTART_DEDUP_NS:
            return None
        if len(self._restarts) > MAX_CHANGES:
            self._restarts.pop(min(self._restarts, key=lambda name: self._restarts[name]))
        identity = {name: labels[name] for name in _IDENTITY_LABELS if name in labels}
        change = Change(
            derived_ulid(time, "restart", what),
            time,
            ChangeKind.RESTART,
            f"{what} restarted",
            "seen",
            identity,
        )
        self.add(change)
        return change

    def find_near(
        self, start: int, end: int, labels: Iterable[Mapping[str, str]], entities: Iterable[str]
    ) -> tuple[str, ...]:
        """Return the ids of changes that may have caused an incident, newest first.

        start, end : int64 ns, the incident's start and its end or newest anomaly
        labels     : label sets of its series
        entities   : names of its entities
        """
        in_time = [
            change for change in self.recent.values()
            if change.time <= end and start - LOOKBACK_NS <= self._end_of(change)
        ]  # fmt: skip
        if not in_time:
            return ()
        label_sets, entity_names = list(labels), set(entities)
        near = [
            change for change in in_time
            if concerns(change, label_sets) or entity_names.intersection(self._entities_of(change))
        ]  # fmt: skip
        return tuple(change.id for change in sorted(near, key=lambda c: (-c.time, c.id)))

    def _end_of(self, change: Change) -> int:
        return max(change.time, self._lasting.get(change.id, (change.time,))[0])

    def _entities_of(self, change: Change) -> tuple[str, ...]:
        return self._lasting[change.id][1] if change.id in self._lasting else ()

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "recent": [asdict(change) for change in self.recent.values()],
            "restarts": self._restarts,
            "lasting": self._lasting,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        changes = [Change(**{**c, "kind": ChangeKind(c["kind"])}) for c in state["recent"]]
        self.recent = {change.id: change for change in changes}
        self._restarts = dict(state["restarts"])
        self._lasting = {
            k: (until, tuple(entities)) for k, (until, entities) in state.get("lasting", {}).items()
        }


def concerns(change: Change, series: Iterable[Mapping[str, str]]) -> bool:
    """Return whether a change concerns one of the series.

    It does if they share a label and all shared labels are equal. One without labels may concern any series.

    >>> deploy = Change("1", 0, ChangeKind.DEPLOY, "web 1.4", "ci", {"job": "web", "version": "1.4"})
    >>> concerns(deploy, [{"job": "web", "instance": "a"}]), concerns(deploy, [{"job": "db"}])
    (True, False)
    """
    if not change.labels:
        return True
    for labels in series:
        shared = [name for name in change.labels if name in labels]
        if shared and all(labels[name] == change.labels[name] for name in shared):
            return True
    return False
