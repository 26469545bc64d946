"""Target matching: finds the targets of a pattern by the names and labels of its entity."""

import re
from collections.abc import Sequence

from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import PatternMatch

_WORDS = re.compile(r"[\w.:-]+")


def matching_targets(match: PatternMatch, remedy: str, facts: Sequence[TargetFacts]) -> list[TargetFacts]:
    """Return the targets of the remedy's kind that the pattern is about.

    A target matches if the entity contains its name or one of its label values, or if one of its series shows
    the pattern. The only target of a kind also matches if the entity contains the kind or the tool.

    >>> cache = TargetFacts("redis", "redis", "cache-1", labels={"instance": "10.0.0.7:9121"})
    >>> match = PatternMatch("cache_thrash", "redis/10.0.0.7:9121", 0.9, 0, ())
    >>> [f.target for f in matching_targets(match, "redis.maxmemory", [cache])]
    ['cache-1']
    """
    kind = remedy.partition(".")[0]
    candidates = [f for f in facts if f.kind == kind]
    words = set(_WORDS.findall(match.entity))
    named = [f for f in candidates if words & {f.target, *f.labels.values()}]
    if named:
        return named
    shown = [f for f in candidates if set(f.series_ids.values()) & set(match.series_ids)]
    if shown:
        return shown
    alone = len(candidates) == 1 and any(kind in word or candidates[0].tool in word for word in words)
    return candidates if alone else []
