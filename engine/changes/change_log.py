"""Changes that people told or that were seen, and which of them stand near an incident."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trimtab.engine.types import Change, ChangeKind
from trimtab.engine.types.ids import derived_ulid

if TYPE_CHECKING:
    from trimtab.engine.incidents.incident_draft import IncidentDraft

LOOKBACK_NS = 1_800_000_000_000
"""A change this long before an incident may have to do with it."""
RESTART_DEDUP_NS = 60_000_000_000
"""Restarts of one thing nearer to each other than this are one."""
MAX_CHANGES = 1000
_IDENTITY_LABELS = ("instance", "pod", "name", "service", "app", "job", "namespace", "host", "node")


class ChangeLog:
    """The newest changes."""

    def __init__(self) -> None:
        self.recent: dict[str, Change] = {}
        self.revision = 0
        """How often something was added: whether there are news."""
        self._restarts: dict[str, int] = {}
        self._lasting: dict[str, tuple[int, tuple[str, ...]]] = {}
        """Id of a change that goes on for a time -> until when, and which entities it is of."""

    def add(self, change: Change) -> None:
        """Insert or replace."""
        self.recent[change.id] = change
        self.revision += 1
        while len(self.recent) > MAX_CHANGES:
            self.recent.pop(min(self.recent, key=lambda one: self.recent[one].time))

    def extend(self, change_id: str, until: int, entities: Sequence[str] = ()) -> None:
        """A change, told before or soon, goes on until then, int64 ns, and is of these entities."""
        self._lasting.pop(change_id, None)
        self._lasting[change_id] = until, tuple(entities)
        while len(self._lasting) > MAX_CHANGES:
            self._lasting.pop(next(iter(self._lasting)))

    def add_restart(self, time: int, labels: Mapping[str, str], what: str) -> Change | None:
        """The Change of a restart that was seen; None = another series of the same thing told it just now.

        what : what restarted, for people, as "redis/cache-1"
        """
        before = self._restarts.get(what)
        self._restarts[what] = max(time, before or time)
        if before is not None and time - before < RESTART_DEDUP_NS:
            return None
        if len(self._restarts) > MAX_CHANGES:
            self._restarts.pop(min(self._restarts, key=lambda one: self._restarts[one]))
        who = {name: labels[name] for name in _IDENTITY_LABELS if name in labels}
        change = Change(
            derived_ulid(time, "restart", what), time, ChangeKind.RESTART, f"{what} restarted", "seen", who
        )
        self.add(change)
        return change

    def find_near(self, case: "IncidentDraft") -> tuple[str, ...]:
        """Ids of the changes that may have to do with a case, newest first."""
        until = case.last if case.end is None else case.ended
        in_time = [
            change for change in self.recent.values()
            if change.time <= until and case.start - LOOKBACK_NS <= self._end_of(change)
        ]  # fmt: skip
        if not in_time:
            return ()
        labels = [member.labels for member in list(case.members.values())[:200]]
        entities = set(case.entities())
        near = [c for c in in_time if concerns(c, labels) or entities.intersection(self._entities_of(c))]
        return tuple(change.id for change in sorted(near, key=lambda c: (-c.time, c.id)))

    def _end_of(self, change: Change) -> int:
        return max(change.time, self._lasting.get(change.id, (change.time,))[0])

    def _entities_of(self, change: Change) -> tuple[str, ...]:
        return self._lasting[change.id][1] if change.id in self._lasting else ()

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "recent": [asdict(change) for change in self.recent.values()],
            "restarts": self._restarts,
            "lasting": self._lasting,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        changes = [Change(**{**c, "kind": ChangeKind(c["kind"])}) for c in state["recent"]]
        self.recent = {change.id: change for change in changes}
        self._restarts = dict(state["restarts"])
        self._lasting = {k: (until, tuple(whom)) for k, (until, whom) in state.get("lasting", {}).items()}


def concerns(change: Change, series: Iterable[Mapping[str, str]]) -> bool:
    """Whether a change concerns one of the series: they share a label, and none that both have differs.

    A change without labels may concern everything.

    >>> deploy = Change("1", 0, ChangeKind.DEPLOY, "web 1.4", "ci", {"job": "web", "version": "1.4"})
    >>> concerns(deploy, [{"job": "web", "instance": "a"}]), concerns(deploy, [{"job": "db"}])
    (True, False)
    """
    if not change.labels:
        return True
    for labels in series:
        both = [name for name in change.labels if name in labels]
        if both and all(labels[name] == change.labels[name] for name in both):
            return True
    return False
