"""Which anomalies belong together. Pure functions over cases; see `joins` and `merges`.

One rule for all sizes of an installation: two things belong together where it would be a rare accident to
see them so near each other, in time and by what they share. How rare is reckoned from how often series are
unusual here, so 20 series of one machine group more freely than 20,000 of a fleet.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.engine.incidents.alert_rates import AlertRates
from trimtab.engine.incidents.incident_draft import IncidentDraft
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.series_directory import EVERYWHERE, SeriesLocation, SeriesDirectory
from trimtab.engine.types import IncidentState

MAX_COINCIDENCES = 0.05
"""What is expected by chance less often than this is no accident."""
JOIN_WINDOW_S = 300.0
"""Longer after its last anomaly only what is of the same entity joins an incident."""
MANY_OPEN, MAX_LATE_COINCIDENCES = 3, 0.3
"""... while so many of its anomalies go on, or chance would not have made one of that entity since."""
MERGE_WINDOW_S = 300.0
"""Incidents that began further apart are not merged."""
MERGE_MAX_COINCIDENCES = 0.01
"""As `ACCIDENT`, for two whole groups: many pairs are looked at."""
MERGE_MIN_SURPRISE = 4.0
"""Groups less surprising than this (powers of ten) are never merged for their time alone."""
REOPEN_WINDOW_S = 1800.0
"""An incident that is over opens again when the same entity is unusual again so soon."""
MIN_SHARED_RATIO = 0.2
"""Share of past events in which two entities must have moved together to be linked by that."""
MIN_LIFT = 20.0
"""... and it must be so many times what chance would give."""


@dataclass(frozen=True, slots=True)
class GroupingContext:
    """What grouping knows of the installation."""

    directory: SeriesDirectory
    rates: AlertRates
    entity_history: CoMovement
    interval_s: float


def find_draft(
    location: SeriesLocation, start: int, drafts: Iterable[IncidentDraft], context: GroupingContext
) -> IncidentDraft | None:
    """The case that an anomaly belongs to, the likeliest where there are several; None = it stands alone.

    at : int64 ns, when it began
    """
    best: tuple[float, IncidentDraft] | None = None
    for case in drafts:
        chance = expected_coincidences(location, start, case, context)
        if chance < MAX_COINCIDENCES and (best is None or chance < best[0]):
            best = chance, case
    return None if best is None else best[1]


def expected_coincidences(
    location: SeriesLocation, start: int, draft: IncidentDraft, context: GroupingContext
) -> float:
    """How many unrelated anomalies chance puts so near this case, by what they share; 1 = do not join."""
    quiet_s = max((start - draft.last) / 1e9, 0.0)
    same = location.entity in draft.series
    going = draft.end is None
    if draft.state is IncidentState.RESOLVED or (not going and quiet_s > JOIN_WINDOW_S):
        over_s = (start - draft.ended) / 1e9
        same &= going or not draft.by_hand
        return MAX_COINCIDENCES / 2.0 if same and over_s <= REOPEN_WINDOW_S else 1.0
    if quiet_s > JOIN_WINDOW_S and not same:
        return 1.0
    sizes = context.directory.scope_sizes
    if same and quiet_s > JOIN_WINDOW_S and len(draft.open) < MANY_OPEN:
        late = context.rates.anomaly_rate() * quiet_s * sizes[location.scopes[0]]
        return MAX_COINCIDENCES / 2.0 if late < MAX_LATE_COINCIDENCES else 1.0
    gap_s = max(min(quiet_s, JOIN_WINDOW_S), context.interval_s)
    rate = context.rates.anomaly_rate() * gap_s
    shared = [scope for scope in location.scopes if scope in draft.bursts]
    chance = rate * min((sizes[scope] for scope in shared), default=len(context.directory))
    if chance >= MAX_COINCIDENCES and not same:
        mine = rate * sizes[location.scopes[0]]
        if is_linked(list(draft.series)[:8], location.entity, mine, context.entity_history):
            return min(mine, MAX_COINCIDENCES / 2.0)
    return chance


def is_linked(entities: Iterable[str], entity: str, chance: float, history: CoMovement) -> bool:
    """Whether an entity moved with one of these so often before that it is no accident."""
    together = max((history.move_ratio(other, entity) for other in entities), default=0.0)
    return together >= MIN_SHARED_RATIO and together > MIN_LIFT * chance


def should_merge(earlier: IncidentDraft, later: IncidentDraft, context: GroupingContext) -> bool:
    """Whether two cases are one: both too surprising to begin so near each other by chance."""
    apart_s = abs(later.start - earlier.start) / 1e9
    apart_s = min(apart_s, abs(_onset(later) - _onset(earlier)) / 1e9)
    if apart_s > MERGE_WINDOW_S:
        return False
    gap_s = max(apart_s, context.interval_s)
    lead = next(iter(later.series))
    chance = context.rates.anomaly_rate() * gap_s * context.directory.scope_sizes[f"entity={lead}"]
    if is_linked(list(earlier.series)[:8], lead, chance, context.entity_history):
        return True
    least = min(earlier.surprise, later.surprise)
    if least < MERGE_MIN_SURPRISE:
        return False
    shared = set(earlier.bursts) & set(later.bursts)
    sizes, everything = context.directory.scope_sizes, max(len(context.directory), 1)
    part = min((sizes[scope] for scope in shared if scope != EVERYWHERE), default=everything) / everything
    return context.rates.groups_per_second(least) * gap_s * part < MERGE_MAX_COINCIDENCES


def _onset(case: IncidentDraft) -> int:
    """When it began in earnest: the beginning of its rarest burst, as near as the second of its series."""
    starts = sorted(member.start for member in list(case.members.values())[:64])
    return starts[min(1, len(starts) - 1)]
