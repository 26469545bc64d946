"""One-off checks of a target without history, used by `trimtab recommend`.

Two readings some seconds apart give rates; unknown values give no finding.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trimtab.engine.recommendations.remedies import ChangeDraft, draft_change, format_amount
from trimtab.engine.recommendations.target_facts import TargetFacts

MIN_EVENTS = 100.0
"""Minimum number of events between two readings for a meaningful ratio."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that a check found.

    remedy : draft of a change that helps; None = an operator has to decide
    advice : what to do, in one sentence
    """

    tool: str
    target: str
    title: str
    evidence: tuple[str, ...]
    advice: str
    remedy: ChangeDraft | None = None


@dataclass(frozen=True, slots=True)
class TargetReadings:
    """Two readings of a target.

    facts     : the second reading
    earlier   : metrics of the first reading by name
    elapsed_s : seconds between the readings
    """

    facts: TargetFacts
    earlier: Mapping[str, float]
    elapsed_s: float

    def increase(self, name: str) -> float | None:
        """Return the increase of a counter between the readings; None = unknown or reset."""
        now, before = self.facts.metric(name), self.earlier.get(name)
        return None if now is None or before is None or now < before else now - before

    def increase_ratio(self, part: str, rest: str) -> float | None:
        """Return one counter's share, 0..1, of the increase of both; None = fewer than MIN_EVENTS."""
        a, b = self.increase(part), self.increase(rest)
        return None if a is None or b is None or a + b < MIN_EVENTS else a / (a + b)


CheckRule = Callable[[TargetReadings], Iterator[Finding]]


def check_target(looks: TargetReadings) -> list[Finding]:
    """Return the findings of all rules for the tool kind, most urgent first."""
    return [one for rule in RULES.get(looks.facts.kind, ()) for one in rule(looks)]


def make_finding(
    looks: TargetReadings,
    title: str,
    evidence: tuple[str, ...],
    advice: str,
    remedy: str | ChangeDraft | None = None,
) -> Finding:
    """Return a finding of a target.

    remedy : draft of a change, or the name of an optimisation
    """
    facts = looks.facts
    change = draft_change(remedy, facts) if isinstance(remedy, str) else remedy
    return Finding(facts.tool, facts.target, title, evidence, advice, change)


def _redis_thrash(looks: TargetReadings) -> Iterator[Finding]:
    evicted, hits = looks.increase("redis_evicted_keys_total"), _hit_ratio(looks)
    limit = looks.facts.knob_number("maxmemory")
    if not evicted or hits is None or hits > 0.9 or not limit:
        return
    yield make_finding(
        looks, "the cache is too small",
        (
            f"{evicted / looks.elapsed_s:.0f} keys a second are evicted",
            f"the hit ratio is {hits:.0%}",
            f"maxmemory is {format_amount(limit, 'B')}",
        ),
        "raise maxmemory step by step, and check the hit ratio after each step", "redis.maxmemory",
    )  # fmt: skip


def _redis_queue(looks: TargetReadings) -> Iterator[Finding]:
    used, limit = looks.facts.metric("redis_memory_used_bytes"), looks.facts.knob_number("maxmemory")
    if looks.facts.knob_value("maxmemory-policy") != "noeviction" or not limit or used is None:
        return
    if used / limit >= 0.85:
        yield make_finding(
            looks, "writes will soon be refused",
            (f"{used / limit:.0%} of {format_amount(limit, 'B')} are used",
             "nothing is evicted (noeviction)"),
            "drain the queue, or raise maxmemory; keep the policy, because these keys are not a cache",
        )  # fmt: skip


def _redis_unbounded(looks: TargetReadings) -> Iterator[Finding]:
    used, host = looks.facts.metric("redis_memory_used_bytes"), _host_memory(looks)
    if looks.facts.knob_value("maxmemory") != 0 or used is None or not host or used / host < 0.5:
        return
    yield make_finding(
        looks, "memory has no limit",
        (f"{format_amount(used, 'B')} of the host's {format_amount(host, 'B')} are used",
         "maxmemory is 0"),
        "set maxmemory below what the host can spare, and a policy that fits the data",
    )  # fmt: skip


def _redis_fragmented(looks: TargetReadings) -> Iterator[Finding]:
    ratio = looks.facts.metric("redis_mem_fragmentation_ratio")
    used = looks.facts.metric("redis_memory_used_bytes")
    if ratio is None or used is None or ratio < 1.5 or used < 256 * 2**20:
        return
    wasted = format_amount((ratio - 1.0) * used, "B")
    yield make_finding(
        looks, "memory is fragmented", (f"{wasted} more than its data take ({ratio:.2f} times)",),
        "switch activedefrag on while the load is low, or restart a replica and fail over",
    )  # fmt: skip


def _redis_refusing(looks: TargetReadings) -> Iterator[Finding]:
    refused = looks.increase("redis_rejected_connections_total")
    if refused:
        yield make_finding(
            looks, "connections are refused", (f"{refused:.0f} in {looks.elapsed_s:.0f} s",),
            "find clients that leak connections, then raise maxclients", "redis.maxclients",
        )  # fmt: skip


def _pg_waiting(looks: TargetReadings) -> Iterator[Finding]:
    waiting = looks.facts.metric("pg_stat_activity_waiting_for_locks")
    idle_s = looks.facts.metric('pg_stat_activity_max_tx_duration{state="idle in transaction"}')
    if waiting and idle_s is not None and idle_s > 60.0:
        yield make_finding(
            looks, "sessions wait for an idle transaction",
            (f"{waiting:.0f} sessions wait for locks", f"one is idle in a transaction for {idle_s:.0f} s"),
            "end that session, and let its application commit or roll back",
            "postgresql.terminate_idle_in_transaction",
        )  # fmt: skip


def _pg_spilling(looks: TargetReadings) -> Iterator[Finding]:
    spilled, files = (
        looks.increase("pg_stat_database_temp_bytes"),
        looks.increase("pg_stat_database_temp_files"),
    )
    if spilled and files:
        yield make_finding(
            looks, "sorts and hashes go to disk",
            (f"{files:.0f} temporary files with {format_amount(spilled, 'B')} in {looks.elapsed_s:.0f} s",
             f"work_mem is {format_amount(looks.facts.knob_number('work_mem'), 'B')}"),
            "raise work_mem by a step, and look at temporary files again", "postgresql.work_mem",
        )  # fmt: skip


def _pg_reading(looks: TargetReadings) -> Iterator[Finding]:
    hits = looks.increase_ratio("pg_stat_database_blks_hit", "pg_stat_database_blks_read")
    size = looks.facts.metric("pg_database_size_bytes")
    shared = looks.facts.metric("pg_settings_shared_buffers_bytes")
    if hits is not None and hits < 0.9 and size is not None and shared is not None and shared < size:
        yield make_finding(
            looks, "reads go past the cache",
            (f"{hits:.0%} of blocks are found in shared_buffers",
             f"shared_buffers are {format_amount(shared, 'B')}, the database has {format_amount(size, 'B')}"),
            "raise shared_buffers to a quarter of memory at the next restart; look for missing indexes",
        )  # fmt: skip


def _pg_dead(looks: TargetReadings) -> Iterator[Finding]:
    dead = looks.facts.metric("pg_stat_user_tables_n_dead_tup")
    live = looks.facts.metric("pg_stat_user_tables_n_live_tup")
    if dead is not None and live is not None and dead > max(0.3 * live, 10_000.0):
        yield make_finding(
            looks, "dead rows pile up", (f"{dead:.0f} rows are dead, {live:.0f} are live",),
            "let autovacuum begin earlier (autovacuum_vacuum_scale_factor), or look for a long transaction",
        )  # fmt: skip


def _pg_full(looks: TargetReadings) -> Iterator[Finding]:
    used, most = (
        looks.facts.metric("pg_stat_database_numbackends"),
        looks.facts.metric("pg_settings_max_connections"),
    )
    if used is not None and most and used / most >= 0.8:
        yield make_finding(
            looks, "connections run out", (f"{used:.0f} of {most:.0f} are in use",),
            "put a pooler in front, or close what is idle; max_connections needs a restart",
        )  # fmt: skip


def _hit_ratio(looks: TargetReadings) -> float | None:
    return looks.increase_ratio("redis_keyspace_hits_total", "redis_keyspace_misses_total")


def _host_memory(looks: TargetReadings) -> float | None:
    return looks.facts.metric("redis_total_system_memory_bytes")


RULES: dict[str, tuple[CheckRule, ...]] = {
    "redis": (_redis_queue, _redis_refusing, _redis_thrash, _redis_unbounded, _redis_fragmented),
    "postgresql": (_pg_waiting, _pg_full, _pg_spilling, _pg_reading, _pg_dead),
}
"""Tool kind -> rules, most urgent first."""
