"""Rules of the one-off check of a data store, on both sides of each limit."""

from dataclasses import replace

import pytest

from trimtab.engine.recommendations.one_off_check import TargetReadings, check_target
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Risk, ToolAction

MIB, GIB = 2**20, 2**30
READING_INTERVAL_S = 10.0
"""Seconds between the two readings."""


def knobs(**values):
    """Return readings by knob name; "_" in a maxmemory name stands for "-"."""
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


def readings(kind, now, earlier=None, actions=(), **values):
    """Return readings of a target: metrics now, and those that differed in the earlier reading."""
    facts = TargetFacts(kind, kind, "t", now, knobs(**values), {action.name: action for action in actions})
    return TargetReadings(facts, {**now, **(earlier or {})}, READING_INTERVAL_S)


def thrash(hits=80.0, evicted=50.0, limit=64 * MIB):
    """Return a cache where `hits` of 100 reads hit and `evicted` keys were evicted."""
    now = {
        "redis_evicted_keys_total": evicted,
        "redis_keyspace_hits_total": hits,
        "redis_keyspace_misses_total": 100.0 - hits,
    }
    return readings("redis", now, dict.fromkeys(now, 0.0), maxmemory=limit, maxmemory_policy="allkeys-lru")


def queue(used, policy="noeviction"):
    """Return a Redis of 100 MiB of which `used` MiB are used."""
    now = {"redis_memory_used_bytes": used * MIB}
    return readings("redis", now, maxmemory=100 * MIB, maxmemory_policy=policy)


def unbounded(used, host=16.0, limit=0):
    """Return a Redis that uses `used` GiB of a host with `host` GiB."""
    now = {"redis_memory_used_bytes": used * GIB, "redis_total_system_memory_bytes": host * GIB}
    return readings("redis", now, maxmemory=limit)


def fragmented(ratio, used=512):
    """Return a Redis that uses `used` MiB with this fragmentation ratio."""
    return readings("redis", {"redis_mem_fragmentation_ratio": ratio, "redis_memory_used_bytes": used * MIB})


def refusing(refused, before=0.0):
    """Return a Redis that refused this many connections in total."""
    name = "redis_rejected_connections_total"
    return readings("redis", {name: refused}, {name: before}, maxclients=8 * GIB)


def waiting(sessions, idle_s):
    """Return a PostgreSQL with sessions that wait for locks and one that idles in a transaction."""
    idle = 'pg_stat_activity_max_tx_duration{state="idle in transaction"}'
    end = ToolAction("terminate_idle_in_transaction", "Ends it.", Risk.MEDIUM)
    now = {"pg_stat_activity_waiting_for_locks": sessions, idle: idle_s}
    return readings("postgresql", now, actions=[end])


def full(used, most=100.0):
    """Return a PostgreSQL with `used` of `most` connections in use."""
    now = {"pg_stat_database_numbackends": used, "pg_settings_max_connections": most}
    return readings("postgresql", now)


def spilling(files, size):
    """Return a PostgreSQL that wrote this many temporary files and bytes between the readings."""
    now = {"pg_stat_database_temp_bytes": size, "pg_stat_database_temp_files": files}
    return readings("postgresql", now, dict.fromkeys(now, 0.0), work_mem=4 * MIB)


def reading(hits, shared=1.0, size=4.0, reads=1000.0):
    """Return a PostgreSQL with this buffer hit ratio; sizes in GiB."""
    counted = {"pg_stat_database_blks_hit": hits * reads, "pg_stat_database_blks_read": (1 - hits) * reads}
    sizes = {"pg_database_size_bytes": size * GIB, "pg_settings_shared_buffers_bytes": shared * GIB}
    return readings("postgresql", {**counted, **sizes}, dict.fromkeys(counted, 0.0))


def dead(rows, live):
    """Return a PostgreSQL with this many dead and live rows."""
    now = {"pg_stat_user_tables_n_dead_tup": rows, "pg_stat_user_tables_n_live_tup": live}
    return readings("postgresql", now)


@pytest.mark.parametrize(
    ("target_readings", "title"),
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
def test_a_rule_reports_past_its_limit(target_readings, title):
    """Past its limit each rule reports a finding with evidence and advice."""
    (found,) = check_target(target_readings)
    assert found.title == title
    assert found.evidence
    assert found.advice
    assert any(char.isdigit() for char in " ".join(found.evidence))


@pytest.mark.parametrize(
    ("target_readings", "why"),
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
def test_a_rule_reports_nothing_below_its_limit(target_readings, why):
    """Below its limit, or with an unknown metric, no rule reports a finding."""
    assert check_target(target_readings) == [], why


@pytest.mark.parametrize(
    "target_readings",
    [thrash(), queue(99), unbounded(9.0), fragmented(2.0), refusing(3.0), waiting(2.0, 99.0), full(99.0),
     spilling(3.0, 9.0), reading(0.1), dead(1e6, 1.0)],
)  # fmt: skip
def test_a_rule_needs_each_of_its_metrics(target_readings):
    """A rule reports nothing when one of its metrics is missing."""
    for name in target_readings.facts.metrics:
        less = {k: v for k, v in target_readings.facts.metrics.items() if k != name}
        assert (
            check_target(replace(target_readings, facts=replace(target_readings.facts, metrics=less))) == []
        ), name


@pytest.mark.parametrize(
    ("target_readings", "subject", "after"),
    [
        (thrash(), "maxmemory", 128 * MIB),
        (refusing(3.0), None, None),
        (waiting(2.0, 99.0), "terminate_idle_in_transaction", None),
        (spilling(3.0, 9.0), "work_mem", 8 * MIB),
    ],
    ids=["thrash", "out of bounds", "an action", "a knob"],
)
def test_a_finding_holds_its_remedy(target_readings, subject, after):
    """A finding holds one knob step or a tool action when the target has it within bounds."""
    (found,) = check_target(target_readings)
    assert (found.remedy and found.remedy.subject) == subject
    assert (found.remedy and found.remedy.after) == after


def test_findings_are_ordered_by_urgency():
    """A finding that stops connections comes before one that slows reads."""
    both = thrash()
    figures = {**both.facts.metrics, "redis_rejected_connections_total": 1.0}
    target_readings = TargetReadings(
        replace(both.facts, metrics=figures), {**dict.fromkeys(figures, 0.0)}, READING_INTERVAL_S
    )
    assert [found.title for found in check_target(target_readings)] == [
        "connections are refused",
        "the cache is too small",
    ]


def test_a_kind_without_rules_has_no_findings():
    """A kind of tool without rules has no findings."""
    assert check_target(readings("webhook", {"x": 1.0})) == []
