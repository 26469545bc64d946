"""Validation and JSON of silences."""

from collections.abc import Sequence

from trimtab.engine.errors import InputError
from trimtab.engine.types import Silence, iso, new_ulid

MAX_DURATION_NS = 366 * 86_400 * 10**9
MAX_ENTITIES, MAX_ENTITY_LENGTH = 50, 200


def new_silence(entities: Sequence[str], begin: int, until: int, by: str, note: str, now: int) -> Silence:
    """Create a silence. Times are int64 ns UTC. Raises InputError if it has no effect or exceeds one year.

    >>> new_silence(["redis/*"], 0, 10, "ann", "", now=5).entities
    ('redis/*',)
    """
    names = tuple(dict.fromkeys(name.strip() for name in entities))
    if not 1 <= len(names) <= MAX_ENTITIES or not all(0 < len(name) <= MAX_ENTITY_LENGTH for name in names):
        raise InputError(
            f"entities has {len(names)} names; 1 to {MAX_ENTITIES} names of 1 to {MAX_ENTITY_LENGTH} "
            "characters are allowed, such as redis/cache-1 or redis/*"
        )
    if until <= max(begin, now):
        earliest = "from" if until <= begin else "now"
        raise InputError(f"until is {iso(until)}, which is not after {earliest}")
    if until - begin > MAX_DURATION_NS:
        raise InputError(f"until is {iso(until)}, more than a year after from")
    return Silence(new_ulid(now), names, begin, until, by, note)


def silence_state(silence: Silence, now: int) -> str:
    """Return the state at `now` (int64 ns UTC): coming, active or over.

    >>> silence_state(Silence("a", ("web",), 10, 20, "ann"), now=15)
    'active'
    """
    if now >= silence.until:
        return "over"
    return "active" if now >= silence.begin else "coming"


def silence_json(silence: Silence, now: int) -> dict[str, object]:
    """Return a silence as JSON."""
    return {
        "id": silence.id,
        "entities": list(silence.entities),
        "from": iso(silence.begin),
        "until": iso(silence.until),
        "by": silence.by,
        "note": silence.note,
        "state": silence_state(silence, now),
    }
