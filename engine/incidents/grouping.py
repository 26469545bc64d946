"""Which anomalies belong together. Pure functions over cases; see `joins` and `merges`.

One rule for all sizes of an installation: two things belong together where it would be a rare accident to
see them so near each other, in time and by what they share. How rare is reckoned from how often series are
unusual here, so 20 series of one machine group more freely than 20,000 of a fleet.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.engine.incidents.alert_rates import Pace
from trimtab.engine.incidents.incident_draft import Case
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.series_directory import EVERYWHERE, Place, Watched
from trimtab.engine.types import IncidentState

ACCIDENT = 0.05
"""What is expected by chance less often than this is no accident."""
LINK_S = 300.0
"""Longer after its last anomaly only what is of the same entity joins an incident."""
GOING_ON, LATE = 3, 0.3
"""... while so many of its anomalies go on, or chance would not have made one of that entity since."""
MERGE_S = 300.0
"""Incidents that began further apart are not merged."""
MERGE_ACCIDENT = 0.01
"""As `ACCIDENT`, for two whole groups: many pairs are looked at."""
MERGE_FROM = 4.0
"""Groups less surprising than this (powers of ten) are never merged for their time alone."""
AGAIN_S = 1800.0
"""An incident that is over opens again when the same entity is unusual again so soon."""
LEARNT = 0.2
"""Share of past events in which two entities must have moved together to be linked by that."""
OF_CHANCE = 20.0
"""... and it must be so many times what chance would give."""


@dataclass(frozen=True, slots=True)
class Known:
    """What grouping knows of the installation."""

    watched: Watched
    pace: Pace
    entities: CoMovement
    interval_s: float


def joins(place: Place, at: int, cases: Iterable[Case], known: Known) -> Case | None:
    """The case that an anomaly belongs to, the likeliest where there are several; None = it stands alone.

    at : int64 ns, when it began
    """
    best: tuple[float, Case] | None = None
    for case in cases:
        chance = accident(place, at, case, known)
        if chance < ACCIDENT and (best is None or chance < best[0]):
            best = chance, case
    return None if best is None else best[1]


def accident(place: Place, at: int, case: Case, known: Known) -> float:
    """How many unrelated anomalies chance puts so near this case, by what they share; 1 = do not join."""
    quiet_s = max((at - case.last) / 1e9, 0.0)
    same = place.entity in case.series
    going = case.end is None
    if case.state is IncidentState.RESOLVED or (not going and quiet_s > LINK_S):
        over_s = (at - case.ended) / 1e9
        same &= going or not case.by_hand
        return ACCIDENT / 2.0 if same and over_s <= AGAIN_S else 1.0
    if quiet_s > LINK_S and not same:
        return 1.0
    sizes = known.watched.sizes
    if same and quiet_s > LINK_S and len(case.open) < GOING_ON:
        late = known.pace.rate() * quiet_s * sizes[place.scopes[0]]
        return ACCIDENT / 2.0 if late < LATE else 1.0
    gap_s = max(min(quiet_s, LINK_S), known.interval_s)
    rate = known.pace.rate() * gap_s
    shared = [scope for scope in place.scopes if scope in case.bursts]
    chance = rate * min((sizes[scope] for scope in shared), default=len(known.watched))
    if chance >= ACCIDENT and not same:
        mine = rate * sizes[place.scopes[0]]
        if linked(list(case.series)[:8], place.entity, mine, known.entities):
            return min(mine, ACCIDENT / 2.0)
    return chance


def linked(entities: Iterable[str], entity: str, chance: float, memory: CoMovement) -> bool:
    """Whether an entity moved with one of these so often before that it is no accident."""
    together = max((memory.share(other, entity) for other in entities), default=0.0)
    return together >= LEARNT and together > OF_CHANCE * chance


def merges(earlier: Case, later: Case, known: Known) -> bool:
    """Whether two cases are one: both too surprising to begin so near each other by chance."""
    apart_s = abs(later.start - earlier.start) / 1e9
    apart_s = min(apart_s, abs(_onset(later) - _onset(earlier)) / 1e9)
    if apart_s > MERGE_S:
        return False
    gap_s = max(apart_s, known.interval_s)
    lead = next(iter(later.series))
    chance = known.pace.rate() * gap_s * known.watched.sizes[f"entity={lead}"]
    if linked(list(earlier.series)[:8], lead, chance, known.entities):
        return True
    least = min(earlier.surprise, later.surprise)
    if least < MERGE_FROM:
        return False
    shared = set(earlier.bursts) & set(later.bursts)
    sizes, everything = known.watched.sizes, max(len(known.watched), 1)
    part = min((sizes[scope] for scope in shared if scope != EVERYWHERE), default=everything) / everything
    return known.pace.groups_per_second(least) * gap_s * part < MERGE_ACCIDENT


def _onset(case: Case) -> int:
    """When it began in earnest: the beginning of its rarest burst, as near as the second of its series."""
    starts = sorted(member.start for member in list(case.members.values())[:64])
    return starts[min(1, len(starts) - 1)]
