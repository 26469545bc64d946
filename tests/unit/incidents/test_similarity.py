"""Past incidents that looked like this one."""

import json

from trimtab.engine.incidents.memory.similarity import Likeness, fingerprint


def print_of(job, *metrics, instance=1, patterns=(), mass=False):
    """Of series of one instance that are above usual."""
    entity = f"{job}/{job}-{instance}:90"
    return fingerprint([entity], [(entity, metric, "above") for metric in metrics], patterns, mass=mass)


def filled():
    """Six incidents that are over."""
    past = Likeness()
    past.remember("thrash", print_of("cache", "evictions", "latency", "misses", patterns=["cache_thrash"]))
    past.remember("same roles", print_of("cache", "evictions", "latency", instance=7))
    past.remember("leak", print_of("web", "memory", "gc"))
    past.remember("other", print_of("db", "locks", "latency"))
    past.remember("all", print_of("db", mass=True))
    past.remember("net", print_of("edge", "packets"))
    return past


def test_the_most_alike_comes_first():
    """By pattern, metrics and roles; twins of an entity are the same role; strangers are not named."""
    now = print_of("cache", "evictions", "latency", "misses", instance=3, patterns=["cache_thrash"])
    assert filled().most_alike(now) == ("thrash", "same roles")
    assert filled().most_alike(now, limit=1) == ("thrash",)
    assert filled().most_alike(now, but="thrash") == ("same roles",)
    assert filled().most_alike(print_of("mail", "queue")) == ()


def test_what_nearly_all_have_in_common_counts_little():
    """A feature of every past incident makes none of them alike."""
    past = Likeness()
    for k in range(30):
        past.remember(f"{k:02d}", print_of("web", "latency", f"m{k}", f"n{k}"))
    assert past.most_alike(print_of("web", "latency", "m7", "n7"))[0] == "07"
    assert len(past.most_alike(print_of("web", "latency", "q1", "q2", "q3", "q4", "q5"), limit=9)) == 0


def test_memory_is_bounded_and_survives_a_restart():
    """The oldest are forgotten; the state goes through JSON."""
    past = Likeness(most=3)
    for name in "abcda":
        past.remember(name, print_of(name, "x"))
    assert list(past.past) == ["c", "d", "a"]
    again = Likeness(most=3)
    again.restore(json.loads(json.dumps(past.state())))
    assert again.most_alike(print_of("d", "x")) == ("d",) == past.most_alike(print_of("d", "x"))
    assert again.most_alike(print_of("b", "x")) == ()
