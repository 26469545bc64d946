"""What must not get worse by a change, beside its own figure: what users of the same things feel."""

from collections.abc import Mapping, Sequence

from trimtab.engine.actions.decision_contracts import Guarded
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.errors import NotFoundError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import part_of
from trimtab.engine.ports import Incidents, KeyValueStore, Ledger
from trimtab.engine.types import Action, Incident, SeriesInfo, SourceState

MOST = 10
"""Series that are watched beside an action."""
STATE = "acting/guarded"
"""Under which they are kept by action."""
KEPT = 100
"""Actions whose series are kept in mind."""
FELT = (
    Role.ERROR_RATIO, Role.ERRORS, Role.LATENCY, Role.DEPENDENCY_ERRORS, Role.DEPENDENCY_LATENCY,
    Role.HIT_RATIO,
)  # fmt: skip
"""Most telling first; less is better, but of hits."""


class GuardedSeries:
    """Latencies, errors and hits of an action's own target and of all that its incident touches.

    Only what is watched now counts. They are chosen once an action, so that every check looks at the same
    series, after a restart, too: then nothing is watched yet. Called in a thread.
    """

    def __init__(self, ledger: Ledger, incidents: Incidents, live: LiveState, memory: KeyValueStore) -> None:
        self.ledger = ledger
        self.incidents = incidents
        self.live = live
        self.memory = memory
        self.scaled: Mapping[str, tuple[str, ...]] = {}
        """Tool, target and knob joined by "/" -> series that its size follows."""
        self._chosen: dict[str, tuple[Guarded, ...]] | None = None

    def __call__(self, action: Action) -> Sequence[Guarded]:
        """The series: of the target first, then of what is hit most, or sends it load. Raises StoreError."""
        if self._chosen is None:
            kept = self.memory.get(STATE) or {}
            self._chosen = {name: tuple(Guarded(*one) for one in rows) for name, rows in kept.items()}
        if action.id not in self._chosen:
            incident = self._incident(action)
            touched = incident.entities if incident is not None else self._scaled(action)
            chosen = self._choose(action, touched)
            if self._starting() or (incident is None and not touched and self._place(action) in self.scaled):
                return chosen  # more may come: it is not settled yet
            self._settle(action.id, chosen)
        return self._chosen[action.id]

    def _settle(self, action_id: str, chosen: tuple[Guarded, ...]) -> None:
        kept = dict([*(self._chosen or {}).items(), (action_id, chosen)][-KEPT:])
        told = {name: [(o.series_id, o.name, o.more_is_better) for o in rows] for name, rows in kept.items()}
        self.memory.set(STATE, told)
        self._chosen = kept

    def _starting(self) -> bool:
        """Whether a source has not told anything since the engine started."""
        states = [one.state for one in self.live.sources()]
        return not states or SourceState.STARTING in states

    def _incident(self, action: Action) -> Incident | None:
        if action.recommendation_id is None:
            return None
        try:
            incident_id = self.ledger.recommendation(action.recommendation_id).incident_id
            return None if incident_id is None else self.incidents.incident(incident_id)
        except NotFoundError:
            return None

    def _scaled(self, action: Action) -> Sequence[str]:
        """What sends the load that the size of the action's target follows."""
        ids = set(self.scaled.get(self._place(action), ()))
        return sorted({entity_of(info.key) for info in self.live.all_watched_series() if info.key.id in ids})

    def _place(self, action: Action) -> str:
        return f"{action.tool}/{action.target}/{action.subject}"

    def _choose(self, action: Action, touched: Sequence[str]) -> tuple[Guarded, ...]:
        places = {entity: place for place, entity in enumerate(touched)}
        found = []
        for info in self.live.all_watched_series():
            role = _felt(info)
            place = -1 if _shows(info, action) else places.get("" if role is None else entity_of(info.key))
            if role is not None and place is not None:
                better = role is Role.HIT_RATIO
                found.append((place, FELT.index(role), str(info.key), info.key.id, better))
        return tuple(
            Guarded(series_id, name, better) for _, _, name, series_id, better in sorted(found)[:MOST]
        )


def _shows(info: SeriesInfo, action: Action) -> bool:
    """Whether its tool tells this of the action's target."""
    labels = dict(info.key.labels)
    return (labels.get("tool"), labels.get("target")) == (action.tool, action.target)


def _felt(info: SeriesInfo) -> Role | None:
    part = part_of(info.key, info.unit, info.kind)
    return part.role if part is not None and part.role in FELT else None
