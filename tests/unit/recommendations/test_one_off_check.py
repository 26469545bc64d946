"""What one look at a data store says, rule by rule, on either side of its limit."""

from dataclasses import replace

import pytest

from trimtab.engine.recommendations.one_off_check import TargetReadings, check_target
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Risk, ToolAction

MIB, GIB = 2**20, 2**30
S = 10.0
"""Seconds between the looks."""


def knobs(**values):
    """Readings by name ("_" is written for "-")."""
    named = {
        name.replace("_", "-") if name.startswith("maxmemory") else name: v for name, v in values.items()
    }
    return {
        name: (
            Knob(name, KnobType.INT, "B", low=MIB, high=8 * GIB, step=64 * MIB),
            KnobReading(value, True, Lasts.UNTIL_RESTART),
        )
        for name, value in named.items()
    }


def looks(kind, now, earlier=None, actions=(), **values):
    """A target of that kind; figures now, and those that were different before."""
    facts = TargetFacts(kind, kind, "t", now, knobs(**values), {action.name: action for action in actions})
    return TargetReadings(facts, {**now, **(earlier or {})}, S)


def thrash(hits=80.0, evicted=50.0, limit=64 * MIB):
    """Of 100 reads so many hit, so many keys were evicted."""
    now = {
        "redis_evicted_keys_total": evicted,
        "redis_keyspace_hits_total": hits,
        "redis_keyspace_misses_total": 100.0 - hits,
    }
    return looks("redis", now, dict.fromkeys(now, 0.0), maxmemory=limit, maxmemory_policy="allkeys-lru")


def queue(used, policy="noeviction"):
    """A Redis of 100 MiB of which so much is used."""
    now = {"redis_memory_used_bytes": used * MIB}
    return looks("redis", now, maxmemory=100 * MIB, maxmemory_policy=policy)


def unbounded(used, host=16.0, limit=0):
    """So many GiB used of the host's."""
    now = {"redis_memory_used_bytes": used * GIB, "redis_total_system_memory_bytes": host * GIB}
    return looks("redis", now, maxmemory=limit)


def fragmented(ratio, used=512):
    """So many MiB used, and that many times as much taken."""
    return looks("redis", {"redis_mem_fragmentation_ratio": ratio, "redis_memory_used_bytes": used * MIB})


def refusing(refused, before=0.0):
    """Connections refused in all."""
    name = "redis_rejected_connections_total"
    return looks("redis", {name: refused}, {name: before}, maxclients=8 * GIB)


def waiting(sessions, idle_s):
    """Sessions that wait for locks, and how long one idles."""
    idle = 'pg_stat_activity_max_tx_duration{state="idle in transaction"}'
    end = ToolAction("terminate_idle_in_transaction", "Ends it.", Risk.MEDIUM)
    now = {"pg_stat_activity_waiting_for_locks": sessions, idle: idle_s}
    return looks("postgresql", now, actions=[end])


def full(used, most=100.0):
    """Connections in use of those allowed."""
    now = {"pg_stat_database_numbackends": used, "pg_settings_max_connections": most}
    return looks("postgresql", now)


def spilling(files, size):
    """Temporary files written between the looks, and their bytes."""
    now = {"pg_stat_database_temp_bytes": size, "pg_stat_database_temp_files": files}
    return looks("postgresql", now, dict.fromkeys(now, 0.0), work_mem=4 * MIB)


def reading(hits, shared=1.0, size=4.0, reads=1000.0):
    """Share of block reads that hit; GiB of shared_buffers and of the database."""
    counted = {"pg_stat_database_blks_hit": hits * reads, "pg_stat_database_blks_read": (1 - hits) * reads}
    sizes = {"pg_database_size_bytes": size * GIB, "pg_settings_shared_buffers_bytes": shared * GIB}
    return looks("postgresql", {**counted, **sizes}, dict.fromkeys(counted, 0.0))


def dead(rows, live):
    """Rows that are dead, next to live ones."""
    now = {"pg_stat_user_tables_n_dead_tup": rows, "pg_stat_user_tables_n_live_tup": live}
    return looks("postgresql", now)


@pytest.mark.parametrize(
    ("seen", "title"),
    [
        (thrash(), "the cache is too small"),
        (queue(85), "writes will soon be refused"),
        (unbounded(8.0), "memory has no limit"),
        (fragmented(1.5), "memory is fragmented"),
        (refusing(3.0), "connections are refused"),
        (waiting(2.0, 61.0), "sessions wait for an idle transaction"),
        (full(80.0), "connections run out"),
        (spilling(3.0, 5.0 * MIB), "sorts and hashes go to disk"),
        (reading(0.89), "reads go past the cache"),
        (dead(31_000.0, 100_000.0), "dead rows pile up"),
        (dead(10_001.0, 0.0), "dead rows pile up"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_finds_what_it_is_for(seen, title):
    """Past its limit each rule tells what is wrong, with figures and what to do."""
    (found,) = check_target(seen)
    assert found.title == title
    assert found.evidence
    assert found.advice
    assert any(char.isdigit() for char in " ".join(found.evidence))


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (thrash(hits=91.0), "a hit ratio of 91 % is good enough"),
        (thrash(evicted=0.0), "nothing is evicted"),
        (thrash(limit=0), "there is no limit"),
        (queue(84), "84 % of it are used"),
        (queue(99, policy="allkeys-lru"), "a cache is full by nature"),
        (unbounded(7.9), "less than half of the host"),
        (unbounded(8.0, limit=9 * GIB), "there is a limit"),
        (unbounded(8.0, host=0.0), "the host's memory is not known"),
        (fragmented(1.49), "little is wasted"),
        (fragmented(3.0, used=255), "a small one: a ratio says little"),
        (refusing(3.0, before=3.0), "none since the first look"),
        (refusing(2.0, before=3.0), "the counter was reset"),
        (waiting(0.0, 61.0), "nobody waits"),
        (waiting(2.0, 60.0), "not idle for long"),
        (full(79.0), "79 % are in use"),
        (full(80.0, most=0.0), "how many are allowed is not known"),
        (spilling(0.0, 0.0), "none were written"),
        (reading(0.9), "90 % are found"),
        (reading(0.5, shared=4.0), "all of it fits"),
        (reading(0.5, reads=99.0), "too few reads to say"),
        (dead(30_000.0, 100_000.0), "30 % are dead"),
        (dead(10_000.0, 10.0), "few in all"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_says_nothing_short_of_its_limit(seen, why):
    """Below the limit, or where a figure is not known, nothing is claimed."""
    assert check_target(seen) == [], why


@pytest.mark.parametrize(
    "seen",
    [thrash(), queue(99), unbounded(9.0), fragmented(2.0), refusing(3.0), waiting(2.0, 99.0), full(99.0),
     spilling(3.0, 9.0), reading(0.1), dead(1e6, 1.0)],
)  # fmt: skip
def test_what_is_not_known_is_not_guessed(seen):
    """Without one of the figures that a rule rests on it says nothing."""
    for name in seen.facts.metrics:
        less = {k: v for k, v in seen.facts.metrics.items() if k != name}
        assert check_target(replace(seen, facts=replace(seen.facts, metrics=less))) == [], name


@pytest.mark.parametrize(
    ("seen", "subject", "after"),
    [
        (thrash(), "maxmemory", 128 * MIB),
        (refusing(3.0), None, None),
        (waiting(2.0, 99.0), "terminate_idle_in_transaction", None),
        (spilling(3.0, 9.0), "work_mem", 8 * MIB),
    ],
    ids=["thrash", "out of bounds", "an action", "a knob"],
)
def test_a_finding_comes_with_the_change_that_helps(seen, subject, after):
    """One step of the knob, or the action, where the target has it and its bounds allow it."""
    (found,) = check_target(seen)
    assert (found.remedy and found.remedy.subject) == subject
    assert (found.remedy and found.remedy.after) == after


def test_the_most_urgent_comes_first():
    """What stops writes stands before what makes reads slow."""
    both = thrash()
    figures = {**both.facts.metrics, "redis_rejected_connections_total": 1.0}
    seen = TargetReadings(replace(both.facts, metrics=figures), {**dict.fromkeys(figures, 0.0)}, S)
    assert [found.title for found in check_target(seen)] == [
        "connections are refused",
        "the cache is too small",
    ]


def test_a_kind_without_rules_has_no_findings():
    """Nothing is looked for in a kind that nobody wrote a rule for."""
    assert check_target(looks("webhook", {"x": 1.0})) == []
