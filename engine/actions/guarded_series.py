"""Selects the guardrail metrics of an action: series whose users would notice harm."""

from collections.abc import Mapping, Sequence

from trimtab.engine.actions.decision_contracts import GuardedMetric
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.errors import NotFoundError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import find_role
from trimtab.engine.ports import Incidents, KeyValueStore, Ledger
from trimtab.engine.types import Action, Incident, SeriesInfo, SourceState

MAX_METRICS = 10
"""Maximum number of guardrail metrics of an action."""
STATE_KEY = "acting/guarded"
"""Key of the stored selections in the key-value store."""
MAX_ACTIONS = 100
"""Number of newest actions whose selection is stored."""
GUARDED_ROLES = (
    Role.ERROR_RATIO, Role.ERRORS, Role.LATENCY, Role.DEPENDENCY_ERRORS, Role.DEPENDENCY_LATENCY,
    Role.HIT_RATIO,
)  # fmt: skip
"""Roles in order of relevance. Lower is better, except for the hit ratio."""


class GuardedSeries:
    """Selects latency, error and hit ratio series of an action's target and of its incident's entities.

    Only series that are currently watched qualify. The selection is made once per action and stored, so every
    check uses the same series, also after a restart. Called in a worker thread.
    """

    def __init__(
        self, ledger: Ledger, incidents: Incidents, live: LiveState, state_store: KeyValueStore
    ) -> None:
        self.ledger = ledger
        self.incidents = incidents
        self.live = live
        self.state_store = state_store
        self.load_series: Mapping[str, tuple[str, ...]] = {}
        """Path "tool/target/knob" of a scaled knob -> ids of the load series it follows."""
        self._chosen: dict[str, tuple[GuardedMetric, ...]] | None = None

    def __call__(self, action: Action) -> Sequence[GuardedMetric]:
        """Return the guardrail metrics: those of the target first, then by entity. Raises StoreError."""
        if self._chosen is None:
            kept = self.state_store.get(STATE_KEY) or {}
            self._chosen = {name: tuple(GuardedMetric(*one) for one in rows) for name, rows in kept.items()}
        if action.id not in self._chosen:
            incident = self._incident(action)
            touched = incident.entities if incident is not None else self._load_entities(action)
            chosen = self._choose(action, touched)
            if self._has_starting_source() or (
                incident is None and not touched and self._knob_path(action) in self.load_series
            ):
                return chosen  # more series may appear: do not store the selection yet
            self._save(action.id, chosen)
        return self._chosen[action.id]

    def _save(self, action_id: str, chosen: tuple[GuardedMetric, ...]) -> None:
        kept = dict([*(self._chosen or {}).items(), (action_id, chosen)][-MAX_ACTIONS:])
        rows_by_action = {
            name: [(o.series_id, o.name, o.more_is_better) for o in rows] for name, rows in kept.items()
        }
        self.state_store.set(STATE_KEY, rows_by_action)
        self._chosen = kept

    def _has_starting_source(self) -> bool:
        """Return whether there is no source, or one that has not delivered samples since the start."""
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

    def _load_entities(self, action: Action) -> Sequence[str]:
        """Return the entities whose load the action's knob follows."""
        ids = set(self.load_series.get(self._knob_path(action), ()))
        return sorted({entity_of(info.key) for info in self.live.all_watched_series() if info.key.id in ids})

    def _knob_path(self, action: Action) -> str:
        return f"{action.tool}/{action.target}/{action.subject}"

    def _choose(self, action: Action, touched: Sequence[str]) -> tuple[GuardedMetric, ...]:
        places = {entity: place for place, entity in enumerate(touched)}
        found = []
        for info in self.live.all_watched_series():
            role = _guardrail_role(info)
            place = (
                -1
                if _belongs_to_target(info, action)
                else places.get("" if role is None else entity_of(info.key))
            )
            if role is not None and place is not None:
                better = role is Role.HIT_RATIO
                found.append((place, GUARDED_ROLES.index(role), str(info.key), info.key.id, better))
        return tuple(
            GuardedMetric(series_id, name, better)
            for _, _, name, series_id, better in sorted(found)[:MAX_METRICS]
        )


def _belongs_to_target(info: SeriesInfo, action: Action) -> bool:
    """Return whether the series is a metric of the action's target, exported by its tool."""
    labels = dict(info.key.labels)
    return (labels.get("tool"), labels.get("target")) == (action.tool, action.target)


def _guardrail_role(info: SeriesInfo) -> Role | None:
    part = find_role(info.key, info.unit, info.kind)
    return part.role if part is not None and part.role in GUARDED_ROLES else None
