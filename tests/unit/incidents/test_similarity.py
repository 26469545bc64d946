"""Similarity of incidents: ranking, feature weights, bounds and state."""

import json

from trimtab.engine.incidents.memory.similarity import IncidentSimilarity, fingerprint


def make_fingerprint(job, *metrics, instance=1, patterns=(), mass=False):
    """Return the fingerprint of an incident whose metrics of one instance are above normal."""
    entity = f"{job}/{job}-{instance}:90"
    return fingerprint([entity], [(entity, metric, "above") for metric in metrics], patterns, mass=mass)


def past_incidents():
    """Return the memory of six ended incidents."""
    past = IncidentSimilarity()
    past.add("thrash", make_fingerprint("cache", "evictions", "latency", "misses", patterns=["cache_thrash"]))
    past.add("same roles", make_fingerprint("cache", "evictions", "latency", instance=7))
    past.add("leak", make_fingerprint("web", "memory", "gc"))
    past.add("other", make_fingerprint("db", "locks", "latency"))
    past.add("all", make_fingerprint("db", mass=True))
    past.add("net", make_fingerprint("edge", "packets"))
    return past


def test_most_similar_comes_first():
    """Shared patterns, metrics and roles rank incidents; dissimilar incidents are not returned."""
    now = make_fingerprint("cache", "evictions", "latency", "misses", instance=3, patterns=["cache_thrash"])
    assert past_incidents().most_similar(now) == ("thrash", "same roles")
    assert past_incidents().most_similar(now, limit=1) == ("thrash",)
    assert past_incidents().most_similar(now, exclude="thrash") == ("same roles",)
    assert past_incidents().most_similar(make_fingerprint("mail", "queue")) == ()


def test_common_features_have_little_weight():
    """A feature of every past incident does not make them similar."""
    past = IncidentSimilarity()
    for k in range(30):
        past.add(f"{k:02d}", make_fingerprint("web", "latency", f"m{k}", f"n{k}"))
    assert past.most_similar(make_fingerprint("web", "latency", "m7", "n7"))[0] == "07"
    assert (
        len(past.most_similar(make_fingerprint("web", "latency", "q1", "q2", "q3", "q4", "q5"), limit=9)) == 0
    )


def test_memory_is_bounded_and_survives_a_restart():
    """The oldest incidents are dropped, and the state survives JSON."""
    past = IncidentSimilarity(max_incidents=3)
    for name in "abcda":
        past.add(name, make_fingerprint(name, "x"))
    assert list(past.past) == ["c", "d", "a"]
    restored = IncidentSimilarity(max_incidents=3)
    restored.restore(json.loads(json.dumps(past.state())))
    assert (
        restored.most_similar(make_fingerprint("d", "x"))
        == ("d",)
        == past.most_similar(make_fingerprint("d", "x"))
    )
    assert restored.most_similar(make_fingerprint("b", "x")) == ()
