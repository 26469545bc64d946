"""Finds similar past incidents: sparse features, weighted Jaccard similarity."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Fingerprint = dict[str, float]
"""Feature -> weight, above 0."""
KIND_WEIGHT = {"pattern": 3.0, "metric": 1.0, "role": 1.0, "first": 2.0, "mass": 3.0}
MAX_FEATURES = 64
MIN_SIMILARITY = 0.3
"""Incidents below this similarity (0..1) are not similar."""
_NUMBERED = re.compile(r"(?:[-_.:](?=[0-9a-z]*\d)[0-9a-z]+)+$")


def role_of(entity: str) -> str:
    """Return what an entity is for: its name without numbers, hashes and ports.

    >>> role_of("redis/cache-1:9121"), role_of("shop/web-7f9c4-x2k1z"), role_of("host")
    ('redis/cache', 'shop/web', 'host')
    """
    return "/".join(_NUMBERED.sub("", part) or part for part in entity.split("/"))


def fingerprint(
    entities: Iterable[str], moved: Iterable[tuple[str, str, str]], patterns: Iterable[str], *, mass: bool
) -> Fingerprint:
    """Return the features of an incident.

    moved : (entity, metric, direction) of each series, the likeliest root cause first

    >>> fingerprint(["db/a-1"], [("db/a-1", "up", "below")], [], mass=False)
    {'role db/a': 1.0, 'first db/a': 2.0, 'metric db/a up below': 1.0}
    """
    roles = Counter(role_of(entity) for entity in entities)
    features = {f"role {role}": KIND_WEIGHT["role"] for role in list(roles)[:MAX_FEATURES]}
    for position, (entity, metric, direction) in enumerate(moved):
        if position == 0:
            features[f"first {role_of(entity)}"] = KIND_WEIGHT["first"]
        if len(features) >= MAX_FEATURES:
            break
        features[f"metric {role_of(entity)} {metric} {direction}"] = KIND_WEIGHT["metric"]
    features |= {f"pattern {name}": KIND_WEIGHT["pattern"] for name in patterns}
    return features | ({"mass": KIND_WEIGHT["mass"]} if mass else {})


def weighted_jaccard(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Return the weighted Jaccard similarity: 1 = equal, 0 = nothing in common.

    >>> weighted_jaccard({"x": 1.0, "y": 1.0}, {"x": 1.0, "z": 2.0}), weighted_jaccard({}, {})
    (0.25, 0.0)
    """
    names = a.keys() | b.keys()
    total = sum(max(a.get(name, 0.0), b.get(name, 0.0)) for name in names)
    return sum(min(a[name], b[name]) for name in a.keys() & b.keys()) / total if total else 0.0


class IncidentSimilarity:
    """Features of past incidents. Features that most of them have count less.

    max_incidents : incidents to keep; the oldest are dropped
    """

    def __init__(self, max_incidents: int = 500) -> None:
        self.max_incidents = max_incidents
        self.past: dict[str, Fingerprint] = {}
        self._ids_by_feature: dict[str, set[str]] = {}
        """Feature -> ids of the past incidents that have it."""

    def add(self, incident_id: str, features: Fingerprint) -> None:
        """Insert or replace an incident."""
        self._remove(incident_id)
        self.past[incident_id] = features
        for name in features:
            self._ids_by_feature.setdefault(name, set()).add(incident_id)
        while len(self.past) > self.max_incidents:
            self._remove(next(iter(self.past)))

    def _remove(self, incident_id: str) -> None:
        for name in self.past.pop(incident_id, {}):
            self._ids_by_feature[name].discard(incident_id)
            if not self._ids_by_feature[name]:
                del self._ids_by_feature[name]

    def most_similar(self, features: Fingerprint, *, exclude: str = "", limit: int = 3) -> tuple[str, ...]:
        """Return the ids of the most similar past incidents, most similar first, newer first among equals.

        exclude : id of the incident itself
        """
        weighted = self._weight_by_rarity(features)
        found: list[tuple[float, str]] = []
        for incident_id in {
            past_id for name in features for past_id in self._ids_by_feature.get(name, ())
        } - {exclude}:
            similarity = weighted_jaccard(weighted, self._weight_by_rarity(self.past[incident_id]))
            if similarity >= MIN_SIMILARITY:
                found.append((similarity, incident_id))
        return tuple(incident_id for _, incident_id in sorted(found, reverse=True)[:limit])

    def _weight_by_rarity(self, features: Fingerprint) -> Fingerprint:
        """Multiply each weight by the feature's rarity, 0.25..1; 1 = at most one past incident has it."""
        n = math.log(max(len(self.past), 2))
        return {
            name: weight * max(0.25, 1.0 - math.log(max(len(self._ids_by_feature.get(name, ())), 1)) / n)
            for name, weight in features.items()
        }

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {"past": self.past}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        self.past, self._ids_by_feature = {}, {}
        for incident_id, features in state["past"].items():
            self.add(incident_id, dict(features))
