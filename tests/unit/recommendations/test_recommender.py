"""Recommender: from patterns and target facts to recommendations, and what is withheld."""

from dataclasses import replace

import pytest

from trimtab.engine.recommendations.recommender import DAY_NS, MINUTE_NS, Recommender
from trimtab.engine.recommendations.target_facts import TargetFacts, step_towards
from trimtab.engine.types import (
    Action,
    ActionState,
    Effect,
    Incident,
    IncidentState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    Mode,
    Outcome,
    PatternMatch,
    RecommendationState,
    Risk,
    Severity,
    ToolAction,
)

NOW = 1_800_000_000 * 10**9
MIB = 2**20
MAXMEMORY = Knob(
    "maxmemory", KnobType.INT, "B", low=MIB, high=256 * MIB, step=64 * MIB, warm_up_s=120, group="memory"
)
POLICY = Knob("maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "noeviction"))
THRASH = PatternMatch(
    "cache_thrash", "redis/cache-1", 0.9, NOW - MINUTE_NS, ("evictions rose from 0 to 900 per second",),
    remedies=("redis.maxmemory",),
)  # fmt: skip
LEAK = PatternMatch(
    "memory_leak", "pm2/worker", 0.8, NOW, ("grows by 2 MiB a minute",), remedies=("pm2.reload",)
)


def cache(limit=64 * MIB, policy="allkeys-lru", **changes):
    """Return the facts of a Redis that is too small."""
    readings = {
        "maxmemory": (MAXMEMORY, KnobReading(limit, True, Lasts.UNTIL_RESTART)),
        "maxmemory-policy": (POLICY, KnobReading(policy, True, Lasts.UNTIL_RESTART)),
    }
    facts = TargetFacts(
        "redis", "redis", "cache-1", {"redis_hit_ratio": 0.4, "redis_memory_used_bytes": limit}, readings,
        modes={"*": Mode.AUTO}, series_ids={"redis_hit_ratio": "s1"},
    )  # fmt: skip
    return replace(facts, **changes)


def incident(*patterns, **changes):
    """Return an open incident with these patterns."""
    plain = Incident(
        "I1", NOW, None, IncidentState.OPEN, "cache-1", 0.6, Severity.HIGH, False, False, ("redis/cache-1",),
        ("A1",), patterns=patterns,
    )  # fmt: skip
    return replace(plain, **changes)


def advise(facts, before=(), actions=(), patterns=(THRASH,), now=NOW, **changes):
    """Return the advice for one incident."""
    ids = iter(f"R{i}" for i in range(99))
    found = incident(*patterns, **changes)
    return Recommender(lambda _: next(ids)).advise(now, [found], facts, before, actions)


def raised(state=ActionState.KEPT, at=NOW - 60 * MINUTE_NS, before=32 * MIB, after=64 * MIB, effect=None):
    """Return an earlier action that raised maxmemory."""
    outcome = Outcome(state, "no harm seen", effect) if state.is_final else None
    return Action(
        f"A{at}{before}", f"k{at}{before}", None, "redis", "cache-1", "maxmemory", False, before, after, True,
        state, Mode.AUTO, "trimtab", at, at, at + MINUTE_NS if state.is_final else None, outcome=outcome,
    )  # fmt: skip


RAISES = tuple(raised(before=i, after=i + 1, at=NOW - 300 * MINUTE_NS + i) for i in (1, 2, 3))


def test_a_thrashing_cache_gets_one_step_more_memory():
    """The recommendation raises maxmemory by one step, with effect, interval and evidence."""
    (made,) = advise([cache()]).recommendations
    assert (made.tool, made.target, made.subject) == ("redis", "cache-1", "maxmemory")
    assert (made.before, made.after) == (64 * MIB, 128 * MIB)
    assert made.title == "Raise maxmemory of cache-1 from 64 MiB to 128 MiB"
    assert made.effect.series_id == "s1"
    assert made.effect.before == 0.4 < made.effect.low < made.effect.expected < made.effect.high < 1
    assert made.evidence[0] == THRASH.evidence[0]
    assert "64 MiB" in made.evidence[1]
    assert made.confidence == pytest.approx(0.81)
    assert (made.mode, made.expires) == (Mode.AUTO, NOW + 5 * MINUTE_NS)
    assert made.incident_id == "I1"


def test_an_ended_pattern_gives_no_recommendation():
    """A pattern that has ended gives no recommendation; others of the incident do."""
    ended = replace(THRASH, until=NOW - 1)
    advice = advise([cache()], patterns=(ended,))
    assert (advice.recommendations, advice.withheld) == ((), ())
    assert [one.subject for one in advise([cache()], patterns=(ended, THRASH)).recommendations] == [
        "maxmemory"
    ]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (cache(policy="noeviction"), "a queue: nothing is evicted, so memory is not what is missing"),
        (cache(limit=256 * MIB), "the upper bound is reached"),
        (cache(limit=0), "no limit is set"),
        (cache(knobs={}), "the limit could not be read"),
        (cache(kind="memcached"), "another kind of tool"),
        (
            cache(target="sessions", series_ids={}, tool="other"),
            "named otherwise, with another one of its kind",
        ),
    ],
)
def test_an_unsuitable_remedy_is_not_recommended(facts, reason):
    """A remedy that does not fit the target gives no recommendation."""
    others = [cache(target="c2", tool="b", knobs={}, series_ids={})] if facts.target == "sessions" else []
    assert advise([facts, *others]).recommendations == (), reason


def test_a_pending_recommendation_is_renewed():
    """A repeated recommendation keeps its ID with a later expiry; another plan increments the generation."""
    (first,) = advise([cache()]).recommendations
    (again,) = advise([cache()], before=[first], now=NOW + MINUTE_NS).recommendations
    assert (again.id, again.generation) == (first.id, 0)
    assert again.expires == first.expires + MINUTE_NS
    (other,) = advise([cache(limit=80 * MIB)], before=[first]).recommendations
    assert (other.id, other.generation, other.after) == (first.id, 1, 144 * MIB)


def test_an_approved_plan_is_not_replaced():
    """An approved recommendation stays as it was approved."""
    (first,) = advise([cache()]).recommendations
    approved = replace(first, state=RecommendationState.APPROVED, approver="ann")
    (same,) = advise([cache(limit=80 * MIB)], before=[approved]).recommendations
    assert same == approved


@pytest.mark.parametrize(
    ("before_state", "actions", "reason"),
    [
        (RecommendationState.DISMISSED, (), "dismissed by ann: not now"),
        (None, (raised(ActionState.VERIFYING),), "is being changed"),
        (None, (raised(at=NOW - 2 * MINUTE_NS),), "was just changed"),
        (None, (raised(ActionState.ROLLED_BACK),), "rolled back"),
        (None, RAISES, "did not help"),
    ],
    ids=["dismissed", "running", "settling", "taken back", "ratchet"],
)  # fmt: skip
def test_withheld_recommendations_have_a_reason(before_state, actions, reason):
    """Dismissed, running, recent, rolled back and ineffective changes are withheld with a reason."""
    before = ()
    if before_state is not None:
        (first,) = advise([cache()]).recommendations
        before = (replace(first, state=before_state, approver="ann", reason="not now"),)
    advice = advise([cache()], before=before, actions=actions)
    assert advice.recommendations == ()
    ((fingerprint, withheld_reason),) = advice.withheld
    assert fingerprint == "redis/cache-1/maxmemory/up"
    assert reason in withheld_reason


def test_helpful_raises_may_be_repeated():
    """Three raises with a measured improvement do not withhold the next."""
    helped = Effect("s1", "hit ratio", "ratio", 0.3, 0.4, 0.35, 0.45)
    actions = [
        raised(before=i, after=64 * MIB, at=NOW - 300 * MINUTE_NS + i, effect=helped) for i in (1, 2, 3)
    ]
    assert len(advise([cache()], actions=actions).recommendations) == 1


def test_a_dismissal_ends_after_a_week():
    """A dismissal ends after a week or when the confidence has risen much."""
    (first,) = advise([cache()]).recommendations
    dismissed = replace(first, state=RecommendationState.DISMISSED)
    assert len(advise([cache()], before=[dismissed], now=NOW + 8 * DAY_NS).recommendations) == 1
    less_confident = replace(dismissed, confidence=0.5)
    assert len(advise([cache()], before=[less_confident]).recommendations) == 1


def test_a_knob_with_another_controller_needs_an_operator():
    """A knob that something else changed needs approval, and the evidence says so."""
    (made,) = advise([cache()], actions=[raised(after=100 * MIB)]).recommendations
    assert made.mode is Mode.APPROVE
    assert "maxmemory was set to" in made.evidence[-1]


def test_a_leaking_worker_is_reloaded():
    """A memory leak recommends a reload with the memory expected after it."""
    worker = TargetFacts(
        "pm2", "pm2", "worker", {"pm2_memory_bytes": 900.0}, {},
        {"reload": ToolAction("reload", "starts new ones first", Risk.LOW)},
        {"*": Mode.APPROVE}, series_ids={"pm2_memory_bytes": "s9"},
        metrics_after_start={"pm2_memory_bytes": 200.0},
    )  # fmt: skip
    (made,) = advise([worker], patterns=(LEAK,)).recommendations
    assert (made.is_action, made.subject, made.before, made.after) == (True, "reload", None, None)
    assert (made.effect.expected, made.effect.more_is_better) == (200.0, False)


@pytest.mark.parametrize(
    "changes", [{"state": IncidentState.RESOLVED}, {"merged_into": "I0"}], ids=["resolved", "merged"]
)
def test_closed_incidents_give_no_recommendation(changes):
    """Resolved and merged incidents give no recommendation."""
    assert advise([cache()], **changes).recommendations == ()


def test_an_export_only_tool_is_for_operators():
    """A tool that cannot be written gets mode recommend."""
    (made,) = advise([cache(writable=False)]).recommendations
    assert made.mode is Mode.RECOMMEND


@pytest.mark.parametrize(
    ("value", "wanted", "knob", "reached"),
    [
        (100, 400, Knob("n", KnobType.INT, low=1, high=1000), 125),  # a quarter when the knob has no step
        (100, 400, Knob("n", KnobType.INT, low=1, high=110), 110),  # its upper bound
        (100, 10, Knob("n", KnobType.INT, low=90, high=1000, step=50), 90),  # its lower bound
        (1, 2, Knob("n", KnobType.INT, low=1, high=9), None),  # a quarter of 1 is less than a whole step
        (1, 2, Knob("n", KnobType.INT, low=1, high=9, step=1), 2),
        (0.1, 1, Knob("n", KnobType.FLOAT, low=0, high=1, step=0.5), 0.6),
        (100, 400, Knob("n", KnobType.INT, low=1, high=1000, grain=8), 120),  # a multiple of its grain
        (5, 9, Knob("n", KnobType.INT), None),  # no step without bounds
    ],
)
def test_step_towards(value, wanted, knob, reached):
    """One step towards the wanted value stays within step, grain and bounds."""
    assert step_towards(value, wanted, knob) == reached
