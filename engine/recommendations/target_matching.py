"""Which targets a pattern is about: by the names and labels that its entity shares with them."""

import re
from collections.abc import Sequence

from trimtab.engine.recommendations.target_facts import Facts
from trimtab.engine.types import PatternMatch

_WORDS = re.compile(r"[\w.:-]+")


def facts_for(match: PatternMatch, remedy: str, facts: Sequence[Facts]) -> list[Facts]:
    """Targets of the remedy's kind that are what the pattern was seen on.

    A target is meant where the entity names it or a label value of its, or where a series of its shows the
    pattern; a lone target of that kind is meant where the entity names the kind or the tool.

    >>> cache = Facts("redis", "redis", "cache-1", labels={"instance": "10.0.0.7:9121"})
    >>> seen = PatternMatch("cache_thrash", "redis/10.0.0.7:9121", 0.9, 0, ())
    >>> [f.target for f in facts_for(seen, "redis.maxmemory", [cache])]
    ['cache-1']
    """
    kind = remedy.partition(".")[0]
    candidates = [f for f in facts if f.kind == kind]
    words = set(_WORDS.findall(match.entity))
    named = [f for f in candidates if words & {f.target, *f.labels.values()}]
    if named:
        return named
    shown = [f for f in candidates if set(f.series.values()) & set(match.series_ids)]
    if shown:
        return shown
    alone = len(candidates) == 1 and any(kind in word or candidates[0].tool in word for word in words)
    return candidates if alone else []
