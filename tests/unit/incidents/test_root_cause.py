"""Ranking of root-cause suspects by onset, deviation and dependencies."""

import pytest

from tests.builders.series import SECOND, START, anomaly_of
from tests.fakes.fake_cluster import series_key
from trimtab.engine.incidents.incident_draft import make_member
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.root_cause import rank_suspects
from trimtab.engine.incidents.series_directory import locate
from trimtab.engine.types import Direction


def member(job, metric, after_s, score=1.6, **labels):
    """Return a member whose series moved `after_s` seconds after the start."""
    key = series_key(job, f"{job}-0:1", metric, **labels)
    start = START + round(after_s * SECOND)
    return make_member(anomaly_of(key, f"{job} {metric}", start=start, score=score), locate(key))


def ranked(*members, entities=None, metrics=None):
    """Return the ranked suspects; co-movement is empty unless given."""
    return rank_suspects(members, entities or CoMovement(), metrics or CoMovement(), 5.0)


def learned_order(*order, times=20):
    """Return co-movement learned from events in which these names moved in this order."""
    memory = CoMovement()
    for k in range(times):
        memory.learn({name: START + 10 * i for i, name in enumerate(order)}, START + k)
    return memory


@pytest.mark.parametrize(
    ("case", "members", "first"),
    [
        ("the first series that moved", [("a", "x", 0), ("a", "y", 15), ("a", "z", 15)], "a x"),
        ("the larger of two simultaneous deviations", [("a", "x", 0, 1.2), ("a", "y", 0, 4.0)], "a y"),
        ("a cause before a user-facing symptom", [("a", "errors", 0), ("a", "x", 0)], "a x"),
        (
            "the entity with most anomalies, not one series that moved just before",
            [("b", "q", -25, 1.1), *(("a", m, 5 * i) for i, m in enumerate("uvwxyz"))],
            "a u",
        ),
    ],
)
def test_likeliest_cause_is_the_first_suspect(case, members, first):
    """The likeliest cause is ranked first."""
    found = ranked(*(member(*m) for m in members))
    job, metric = first.split()
    assert (found[0].entity, found[0].series.partition("{")[0]) == (f"{job}/{job}-0:1", metric), case


def test_weights_decrease_and_sum_to_at_most_one():
    """There are at most five distinct suspects, sorted by weight."""
    found = ranked(*(member("a", f"m{i}", i) for i in range(12)), member("a", "m0", 40))
    weights = [s.weight for s in found]
    assert len(found) == 5
    assert weights == sorted(weights, reverse=True)
    assert 0.0 < sum(weights) <= 1.0


def test_callee_is_suspected_more():
    """An entity that others name as their callee is suspected more."""
    caller = [member("web", m, 0, upstream="redis") for m in "xyz"]
    callee = [member("redis", m, 10) for m in "xyz"]
    found = ranked(*caller, *callee)
    assert found[0].entity == "redis/redis-0:1"
    assert found[0].why.endswith("; web/web-0:1 calls it.")


def test_learned_order_decides_between_entities():
    """The entity that moved first in past events is suspected."""
    both = [member(job, m, 0) for job in ("db", "web") for m in "xy"]
    order = [("db/db-0:1", "web/web-0:1"), ("web/web-0:1", "db/db-0:1")]
    assert [ranked(*both, entities=learned_order(*names))[0].entity for names in order] == [
        a for a, _ in order
    ]


def test_learned_order_decides_between_metrics():
    """The metric that moved first in past events is suspected."""
    both = [member("a", m, 0) for m in ("x", "y")]
    assert ranked(*both, metrics=learned_order("x", "y"))[0].series.startswith("x")
    assert ranked(*both, metrics=learned_order("y", "x"))[0].series.startswith("y")


def test_reason_has_series_time_and_deviation():
    """The reason names the series, its time and its distance from the normal range."""
    found = ranked(member("a", "queue_length", 0, 3.0), member("a", "cpu_seconds_total", 15))
    assert [s.why for s in found] == [
        "Queue length of a/a-0:1 moved first, 15 s before the next; it reached 9; normal is 0.5 to 1.5.",
        "Cpu of a/a-0:1 moved 15 s after the first; it reached 9; normal is 0.5 to 1.5.",
    ]
    (only,) = ranked(member("a", "x", 0))
    assert only.why.startswith("X of a/a-0:1 is the only series that moved")


def test_reason_for_an_absent_series():
    """The reason for an absent series states that it has no samples."""
    absent = member("a", "x", 0)
    absent.direction = Direction.ABSENT
    assert ranked(absent)[0].why.endswith("; it has no samples.")


def test_co_movement_is_bounded_and_decays():
    """The weakest pairs are dropped, and old events have less weight."""
    memory = CoMovement(half_life_days=7.0, max_pairs=100)
    for k in range(40):
        memory.learn({f"{k} {i}": i for i in range(10)}, START)
    assert len(memory.together) <= 100
    memory = learned_order("a", "b")
    before = memory.move_ratio("a", "b")
    memory.learn({"c": 1}, START + 400 * 86_400 * SECOND)
    assert memory.move_ratio("a", "b") < 0.2 * before
