"""A look at a target without a history: what its own figures already say, as for `trimtab recommend`.

Two looks some seconds apart tell rates; what they do not tell is left out, never guessed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trimtab.engine.recommendations.remedies import Draft, amount, draft
from trimtab.engine.recommendations.target_facts import Facts

FEW = 100.0
"""Events between two looks below which a share of them says little."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a look has shown.

    remedy : the draft of a change that helps; None = people have to decide what
    advice : what to do, in a sentence
    """

    tool: str
    target: str
    title: str
    evidence: tuple[str, ...]
    advice: str
    remedy: Draft | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """A target at two moments; earlier holds the figures of the first."""

    facts: Facts
    earlier: Mapping[str, float]
    seconds: float

    def grown(self, name: str) -> float | None:
        """How much a counter grew between the looks; None where it is not known, or was reset."""
        now, before = self.facts.figure(name), self.earlier.get(name)
        return None if now is None or before is None or now < before else now - before

    def share(self, part: str, rest: str) -> float | None:
        """Share of one counter's growth in that of both; None where too little happened."""
        a, b = self.grown(part), self.grown(rest)
        return None if a is None or b is None or a + b < FEW else a / (a + b)


Rule = Callable[[Looks], Iterator[Finding]]


def findings(looks: Looks) -> list[Finding]:
    """All that the rules of its kind find, most urgent first."""
    return [one for rule in RULES.get(looks.facts.kind, ()) for one in rule(looks)]


def found(
    looks: Looks, title: str, evidence: tuple[str, ...], advice: str, remedy: str | Draft | None = None
) -> Finding:
    """A finding of a target. remedy : the draft of a change, or the name of an optimisation"""
    facts = looks.facts
    change = draft(remedy, facts) if isinstance(remedy, str) else remedy
    return Finding(facts.tool, facts.target, title, evidence, advice, change)


def _redis_thrash(looks: Looks) -> Iterator[Finding]:
    evicted, hits = looks.grown("redis_evicted_keys_total"), _hit_ratio(looks)
    limit = looks.facts.number("maxmemory")
    if not evicted or hits is None or hits > 0.9 or not limit:
        return
    yield found(
        looks, "the cache is too small",
        (
            f"{evicted / looks.seconds:.0f} keys a second are evicted",
            f"the hit ratio is {hits:.0%}",
            f"maxmemory is {amount(limit, 'B')}",
        ),
        "give it more memory, step by step, and look at the hit ratio after each", "redis.maxmemory",
    )  # fmt: skip


def _redis_queue(looks: Looks) -> Iterator[Finding]:
    used, limit = looks.facts.figure("redis_memory_used_bytes"), looks.facts.number("maxmemory")
    if looks.facts.value("maxmemory-policy") != "noeviction" or not limit or used is None:
        return
    if used / limit >= 0.85:
        yield found(
            looks, "writes will soon be refused",
            (f"{used / limit:.0%} of {amount(limit, 'B')} are used, and nothing is evicted (noeviction)",),
            "drain what waits in it, or give it more memory; the policy must stay, keys here are no cache",
        )  # fmt: skip


def _redis_unbounded(looks: Looks) -> Iterator[Finding]:
    used, host = looks.facts.figure("redis_memory_used_bytes"), _host_memory(looks)
    if looks.facts.value("maxmemory") != 0 or used is None or not host or used / host < 0.5:
        return
    yield found(
        looks, "memory has no limit",
        (f"{amount(used, 'B')} of the host's {amount(host, 'B')} are used, and maxmemory is 0",),
        "set maxmemory below what the host can spare, and a policy that fits the data",
    )  # fmt: skip


def _redis_fragmented(looks: Looks) -> Iterator[Finding]:
    ratio = looks.facts.figure("redis_mem_fragmentation_ratio")
    used = looks.facts.figure("redis_memory_used_bytes")
    if ratio is None or used is None or ratio < 1.5 or used < 256 * 2**20:
        return
    wasted = amount((ratio - 1.0) * used, "B")
    yield found(
        looks, "memory is fragmented", (f"{wasted} more than its data take ({ratio:.2f} times)",),
        "switch activedefrag on while the load is low, or restart a replica and fail over",
    )  # fmt: skip


def _redis_refusing(looks: Looks) -> Iterator[Finding]:
    refused = looks.grown("redis_rejected_connections_total")
    if refused:
        yield found(
            looks, "connections are refused", (f"{refused:.0f} in {looks.seconds:.0f} s",),
            "look for clients that do not close theirs, then raise maxclients", "redis.maxclients",
        )  # fmt: skip


def _pg_waiting(looks: Looks) -> Iterator[Finding]:
    waiting = looks.facts.figure("pg_stat_activity_waiting_for_locks")
    idle_s = looks.facts.figure('pg_stat_activity_max_tx_duration{state="idle in transaction"}')
    if waiting and idle_s is not None and idle_s > 60.0:
        yield found(
            looks, "sessions wait for one that does nothing",
            (f"{waiting:.0f} sessions wait for locks", f"one is idle in a transaction for {idle_s:.0f} s"),
            "end that session, and let its application commit or roll back",
            "postgresql.terminate_idle_in_transaction",
        )  # fmt: skip


def _pg_spilling(looks: Looks) -> Iterator[Finding]:
    spilled, files = looks.grown("pg_stat_database_temp_bytes"), looks.grown("pg_stat_database_temp_files")
    if spilled and files:
        yield found(
            looks, "sorts and hashes go to disk",
            (f"{files:.0f} temporary files with {amount(spilled, 'B')} in {looks.seconds:.0f} s",
             f"work_mem is {amount(looks.facts.number('work_mem'), 'B')}"),
            "raise work_mem by a step, and look at temporary files again", "postgresql.work_mem",
        )  # fmt: skip


def _pg_reading(looks: Looks) -> Iterator[Finding]:
    hits = looks.share("pg_stat_database_blks_hit", "pg_stat_database_blks_read")
    size = looks.facts.figure("pg_database_size_bytes")
    shared = looks.facts.figure("pg_settings_shared_buffers_bytes")
    if hits is not None and hits < 0.9 and size is not None and shared is not None and shared < size:
        yield found(
            looks, "reads go past the cache",
            (f"{hits:.0%} of blocks are found in shared_buffers",
             f"shared_buffers are {amount(shared, 'B')}, the database has {amount(size, 'B')}"),
            "raise shared_buffers to a quarter of memory at the next restart; look for missing indexes",
        )  # fmt: skip


def _pg_dead(looks: Looks) -> Iterator[Finding]:
    dead = looks.facts.figure("pg_stat_user_tables_n_dead_tup")
    live = looks.facts.figure("pg_stat_user_tables_n_live_tup")
    if dead is not None and live is not None and dead > max(0.3 * live, 10_000.0):
        yield found(
            looks, "dead rows pile up", (f"{dead:.0f} rows are dead beside {live:.0f} live ones",),
            "let autovacuum begin earlier (autovacuum_vacuum_scale_factor), or look for a long transaction",
        )  # fmt: skip


def _pg_full(looks: Looks) -> Iterator[Finding]:
    used, most = (
        looks.facts.figure("pg_stat_database_numbackends"),
        looks.facts.figure("pg_settings_max_connections"),
    )
    if used is not None and most and used / most >= 0.8:
        yield found(
            looks, "connections run out", (f"{used:.0f} of {most:.0f} are in use",),
            "put a pooler in front, or close what is idle; max_connections needs a restart",
        )  # fmt: skip


def _hit_ratio(looks: Looks) -> float | None:
    return looks.share("redis_keyspace_hits_total", "redis_keyspace_misses_total")


def _host_memory(looks: Looks) -> float | None:
    return looks.facts.figure("redis_total_system_memory_bytes")


RULES: dict[str, tuple[Rule, ...]] = {
    "redis": (_redis_queue, _redis_refusing, _redis_thrash, _redis_unbounded, _redis_fragmented),
    "postgresql": (_pg_waiting, _pg_full, _pg_spilling, _pg_reading, _pg_dead),
}
"""Kind of a tool -> what is looked for, most urgent first."""
