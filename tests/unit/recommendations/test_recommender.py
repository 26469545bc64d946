"""From patterns and facts to recommendations: what is said, what is not said again, and what is withheld."""

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
    """A Redis that is too small."""
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
    """One that goes on."""
    plain = Incident(
        "I1", NOW, None, IncidentState.OPEN, "cache-1", 0.6, Severity.HIGH, False, False, ("redis/cache-1",),
        ("A1",), patterns=patterns,
    )  # fmt: skip
    return replace(plain, **changes)


def advise(facts, before=(), actions=(), patterns=(THRASH,), now=NOW, **changes):
    """One look."""
    ids = iter(f"R{i}" for i in range(99))
    found = incident(*patterns, **changes)
    return Recommender(lambda _: next(ids)).advise(now, [found], facts, before, actions)


def raised(state=ActionState.KEPT, at=NOW - 60 * MINUTE_NS, before=32 * MIB, after=64 * MIB, effect=None):
    """An earlier raise of maxmemory."""
    outcome = Outcome(state, "no harm seen", effect) if state.is_final else None
    return Action(
        f"A{at}{before}", f"k{at}{before}", None, "redis", "cache-1", "maxmemory", False, before, after, True,
        state, Mode.AUTO, "trimtab", at, at, at + MINUTE_NS if state.is_final else None, outcome=outcome,
    )  # fmt: skip


RAISES = tuple(raised(before=i, after=i + 1, at=NOW - 300 * MINUTE_NS + i) for i in (1, 2, 3))


def test_a_thrashing_cache_is_given_more_room_by_one_step():
    """From -> to within the step of the knob, an effect with interval, evidence of pattern and target."""
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


def test_a_pattern_that_is_over_gives_no_advice():
    """Only what is recognised now is acted on; another pattern of the same incident still is."""
    over = replace(THRASH, until=NOW - 1)
    advice = advise([cache()], patterns=(over,))
    assert (advice.recommendations, advice.withheld) == ((), ())
    assert [one.subject for one in advise([cache()], patterns=(over, THRASH)).recommendations] == [
        "maxmemory"
    ]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (cache(policy="noeviction"), "a queue: nothing is evicted, so stack is not what is missing"),
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
def test_what_does_not_fit_is_not_recommended(facts, why):
    """A remedy that does not fit a target says nothing."""
    others = [cache(target="c2", tool="b", knobs={}, series_ids={})] if facts.target == "sessions" else []
    assert advise([facts, *others]).recommendations == (), why


def test_a_standing_recommendation_is_refreshed():
    """The same id with a later expiry; another plan counts the generation up."""
    (first,) = advise([cache()]).recommendations
    (again,) = advise([cache()], before=[first], now=NOW + MINUTE_NS).recommendations
    assert (again.id, again.generation) == (first.id, 0)
    assert again.expires == first.expires + MINUTE_NS
    (other,) = advise([cache(limit=80 * MIB)], before=[first]).recommendations
    assert (other.id, other.generation, other.after) == (first.id, 1, 144 * MIB)


def test_an_approved_plan_is_not_exchanged():
    """What a person approved stays as it was approved."""
    (first,) = advise([cache()]).recommendations
    approved = replace(first, state=RecommendationState.APPROVED, approver="ann")
    (same,) = advise([cache(limit=80 * MIB)], before=[approved]).recommendations
    assert same == approved


@pytest.mark.parametrize(
    ("before_state", "actions", "why"),
    [
        (RecommendationState.DISMISSED, (), "dismissed by ann: not now"),
        (None, (raised(ActionState.VERIFYING),), "is being changed"),
        (None, (raised(at=NOW - 2 * MINUTE_NS),), "was just changed"),
        (None, (raised(ActionState.ROLLED_BACK),), "rolled back"),
        (None, RAISES, "did not help"),
    ],
    ids=["dismissed", "running", "settling", "taken back", "ratchet"],
)  # fmt: skip
def test_what_is_withheld_says_why(before_state, actions, why):
    """Neither nagging, nor two changes at once, nor a ratchet."""
    before = ()
    if before_state is not None:
        (first,) = advise([cache()]).recommendations
        before = (replace(first, state=before_state, approver="ann", reason="not now"),)
    advice = advise([cache()], before=before, actions=actions)
    assert advice.recommendations == ()
    ((fingerprint, said),) = advice.withheld
    assert fingerprint == "redis/cache-1/maxmemory/up"
    assert why in said


def test_raises_that_helped_may_go_on():
    """Three raises of which one was measured to help are no ratchet."""
    helped = Effect("s1", "hit ratio", "ratio", 0.3, 0.4, 0.35, 0.45)
    actions = [
        raised(before=i, after=64 * MIB, at=NOW - 300 * MINUTE_NS + i, effect=helped) for i in (1, 2, 3)
    ]
    assert len(advise([cache()], actions=actions).recommendations) == 1


def test_a_dismissal_is_forgotten_after_a_week():
    """Or when the engine has become much surer."""
    (first,) = advise([cache()]).recommendations
    dismissed = replace(first, state=RecommendationState.DISMISSED)
    assert len(advise([cache()], before=[dismissed], now=NOW + 8 * DAY_NS).recommendations) == 1
    unsure = replace(dismissed, confidence=0.5)
    assert len(advise([cache()], before=[unsure]).recommendations) == 1


def test_a_knob_that_somebody_else_sets_needs_a_person():
    """Another controller on the same knob: no automatic change, and the evidence says so."""
    (made,) = advise([cache()], actions=[raised(after=100 * MIB)]).recommendations
    assert made.mode is Mode.APPROVE
    assert "maxmemory was set to" in made.evidence[-1]


def test_a_leaking_worker_is_reloaded():
    """An action of a tool, with the memory that it is expected to give back."""
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
def test_what_is_over_is_not_treated(changes):
    """Only incidents that go on, in their own name, lead to recommendations."""
    assert advise([cache()], **changes).recommendations == ()


def test_an_export_only_tool_is_never_acted_on():
    """What cannot be written is recommended, for people to do."""
    (made,) = advise([cache(writable=False)]).recommendations
    assert made.mode is Mode.RECOMMEND


@pytest.mark.parametrize(
    ("value", "wanted", "knob", "reached"),
    [
        (100, 400, Knob("n", KnobType.INT, low=1, high=1000), 125),  # a quarter where the knob names no step
        (100, 400, Knob("n", KnobType.INT, low=1, high=110), 110),  # its upper bound
        (100, 10, Knob("n", KnobType.INT, low=90, high=1000, step=50), 90),  # its lower bound
        (1, 2, Knob("n", KnobType.INT, low=1, high=9), None),  # a quarter of 1 is no whole step
        (1, 2, Knob("n", KnobType.INT, low=1, high=9, step=1), 2),
        (0.1, 1, Knob("n", KnobType.FLOAT, low=0, high=1, step=0.5), 0.6),
        (100, 400, Knob("n", KnobType.INT, low=1, high=1000, grain=8), 120),  # a multiple of its grain
        (5, 9, Knob("n", KnobType.INT), None),  # without bounds nothing is changed without a person
    ],
)
def test_one_step_at_a_time(value, wanted, knob, reached):
    """Steps and bounds hold, whatever is wanted."""
    assert step_towards(value, wanted, knob) == reached
