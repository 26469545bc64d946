"""Decides which anomalies belong to one incident. Pure functions over drafts.

One rule for installations of all sizes: anomalies belong together when unrelated anomalies would rarely be
so close, in time and in what they share. The observed anomaly rate defines "rarely", so 20 series of one
machine are grouped more readily than 20,000 series of a fleet.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.engine.incidents.alert_rates import AlertRates
from trimtab.engine.incidents.incident_draft import IncidentDraft
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.series_directory import EVERYWHERE, SeriesDirectory, SeriesLocation
from trimtab.engine.types import IncidentState

MAX_COINCIDENCES = 0.05
"""Anomalies are related when fewer unrelated ones than this are expected so close to each other."""
JOIN_WINDOW_S = 300.0
"""Later than this after its last anomaly only anomalies of the same entity join an incident."""
MANY_OPEN, MAX_LATE_COINCIDENCES = 3, 0.3
"""After the join window, an incident needs this many open anomalies, or fewer than `MAX_LATE_COINCIDENCES`
expected unrelated anomalies of the entity since.
"""
MERGE_WINDOW_S = 300.0
"""Incidents that began further apart are not merged."""
MERGE_MAX_COINCIDENCES = 0.01
"""As `MAX_COINCIDENCES`, for two groups; lower because many pairs are compared."""
MERGE_MIN_SURPRISE = 4.0
"""Groups with less surprise (powers of ten) are not merged by time alone."""
REOPEN_WINDOW_S = 1800.0
"""A resolved incident reopens when the same entity is anomalous again within this time."""
MIN_SHARED_RATIO = 0.2
"""Share of past events (0..1) in which two linked entities moved together."""
MIN_LIFT = 20.0
"""That ratio must also be this many times the ratio expected by chance."""


@dataclass(frozen=True, slots=True)
class GroupingContext:
    """What grouping needs to know about the installation."""

    directory: SeriesDirectory
    rates: AlertRates
    entity_history: CoMovement
    interval_s: float


def find_draft(
    location: SeriesLocation, start: int, drafts: Iterable[IncidentDraft], context: GroupingContext
) -> IncidentDraft | None:
    """Return the draft that a new anomaly most likely belongs to, or None if it starts its own.

    start : int64 ns, start of the anomaly
    """
    best: tuple[float, IncidentDraft] | None = None
    for draft in drafts:
        chance = expected_coincidences(location, start, draft, context)
        if chance < MAX_COINCIDENCES and (best is None or chance < best[0]):
            best = chance, draft
    return None if best is None else best[1]


def expected_coincidences(
    location: SeriesLocation, start: int, draft: IncidentDraft, context: GroupingContext
) -> float:
    """Return how many unrelated anomalies are expected so close to this draft; 1 = do not join."""
    since_last_s = max((start - draft.last) / 1e9, 0.0)
    same_entity = location.entity in draft.series
    is_active = draft.end is None
    if draft.state is IncidentState.RESOLVED or (not is_active and since_last_s > JOIN_WINDOW_S):
        since_end_s = (start - draft.ended) / 1e9
        same_entity &= is_active or not draft.by_hand
        return MAX_COINCIDENCES / 2.0 if same_entity and since_end_s <= REOPEN_WINDOW_S else 1.0
    if since_last_s > JOIN_WINDOW_S and not same_entity:
        return 1.0
    sizes = context.directory.scope_sizes
    if same_entity and since_last_s > JOIN_WINDOW_S and len(draft.open) < MANY_OPEN:
        late_coincidences = context.rates.anomaly_rate() * since_last_s * sizes[location.scopes[0]]
        return MAX_COINCIDENCES / 2.0 if late_coincidences < MAX_LATE_COINCIDENCES else 1.0
    gap_s = max(min(since_last_s, JOIN_WINDOW_S), context.interval_s)
    rate = context.rates.anomaly_rate() * gap_s
    shared = [scope for scope in location.scopes if scope in draft.bursts]
    chance = rate * min((sizes[scope] for scope in shared), default=len(context.directory))
    if chance >= MAX_COINCIDENCES and not same_entity:
        expected = rate * sizes[location.scopes[0]]
        if is_linked(list(draft.series)[:8], location.entity, expected, context.entity_history):
            return min(expected, MAX_COINCIDENCES / 2.0)
    return chance


def is_linked(entities: Iterable[str], entity: str, chance: float, history: CoMovement) -> bool:
    """Return whether an entity moved with one of the others so often that they are related."""
    together = max((history.move_ratio(other, entity) for other in entities), default=0.0)
    return together >= MIN_SHARED_RATIO and together > MIN_LIFT * chance


def should_merge(earlier: IncidentDraft, later: IncidentDraft, context: GroupingContext) -> bool:
    """Return whether two drafts are one incident: both too surprising to begin so close by chance."""
    distance_s = abs(later.start - earlier.start) / 1e9
    distance_s = min(distance_s, abs(_onset(later) - _onset(earlier)) / 1e9)
    if distance_s > MERGE_WINDOW_S:
        return False
    gap_s = max(distance_s, context.interval_s)
    first_entity = next(iter(later.series))
    chance = context.rates.anomaly_rate() * gap_s * context.directory.scope_sizes[f"entity={first_entity}"]
    if is_linked(list(earlier.series)[:8], first_entity, chance, context.entity_history):
        return True
    min_surprise = min(earlier.surprise, later.surprise)
    if min_surprise < MERGE_MIN_SURPRISE:
        return False
    shared = set(earlier.bursts) & set(later.bursts)
    sizes, total = context.directory.scope_sizes, max(len(context.directory), 1)
    scope_ratio = min((sizes[scope] for scope in shared if scope != EVERYWHERE), default=total) / total
    return context.rates.groups_per_second(min_surprise) * gap_s * scope_ratio < MERGE_MAX_COINCIDENCES


def _onset(draft: IncidentDraft) -> int:
    """Return the start of the main burst: the start of the second series."""
    starts = sorted(member.start for member in list(draft.members.values())[:64])
    return starts[min(1, len(starts) - 1)]
