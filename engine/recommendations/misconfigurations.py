"""What is set badly though nothing happens yet: for people to decide, at low priority, without an incident.

Each rule looks at settings and figures as they are now; what is not known is no finding.
"""

from collections.abc import Iterator

from trimtab.engine.recommendations.one_off_check import Finding, Looks, Rule, findings, found
from trimtab.engine.recommendations.remedies import Draft, amount, as_value
from trimtab.engine.recommendations.target_facts import Facts, stepped
from trimtab.engine.types import Risk

FEW_KEYS = 100.0
"""Below so many keys nothing is said of what a Redis is used for."""
CHEAP_READ = 1.1
"""random_page_cost where a random page costs hardly more than the next one: memory, SSDs."""
DEFAULT_BUFFERS = 128 * 2**20


def _redis_no_limit(looks: Looks) -> Iterator[Finding]:
    facts = looks.facts
    if facts.value("maxmemory") != 0 or facts.number("maxmemory") is None:
        return
    used, host = facts.figure("redis_memory_used_bytes"), facts.figure("redis_total_system_memory_bytes")
    known = (f"{amount(used, 'B')} are used, the host has {amount(host, 'B')}",) if used and host else ()
    yield found(
        looks, "memory has no limit", ("maxmemory is 0", *known),
        "set maxmemory below what the host can spare, and a policy that fits the data",
    )  # fmt: skip


def _redis_cache_refuses(looks: Looks) -> Iterator[Finding]:
    facts = looks.facts
    keys, expiring = facts.figure("redis_db_keys"), facts.figure("redis_db_keys_expiring")
    if facts.value("maxmemory-policy") != "noeviction" or keys is None or keys < FEW_KEYS or expiring != keys:
        return
    yield found(
        looks, "a cache that refuses writes when it is full",
        (f"all {keys:.0f} keys have a time to live, as in a cache", "maxmemory-policy is noeviction"),
        "where all keys can be fetched again set maxmemory-policy to allkeys-lru or volatile-lru; a queue "
        "keeps noeviction",
    )  # fmt: skip


def _switched_off(name: str, harm: str) -> Rule:
    """A rule: a safety of PostgreSQL is off."""

    def rule(looks: Looks) -> Iterator[Finding]:
        if looks.facts.figure(f"pg_settings_{name}") == 0.0:
            yield found(
                looks, f"{name} is off", (harm,), f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
            )

    return rule


def _pg_disk_prices(looks: Looks) -> Iterator[Finding]:
    """A database that fits into memory, planned for as if it were on a spinning disk."""
    facts = looks.facts
    cost, size = facts.number("random_page_cost"), facts.figure("pg_database_size_bytes")
    cached = facts.number("effective_cache_size")
    if cost is None or size is None or cached is None or cost < 4.0 or size > cached:
        return
    yield found(
        looks, "the planner takes memory for a spinning disk",
        (f"random_page_cost is {cost:g}",
         f"the database has {amount(size, 'B')}, of which {amount(cached, 'B')} can be cached"),
        f"lower random_page_cost step by step towards {CHEAP_READ}, and look at slow queries after each",
        _cheaper_reads(facts),
    )  # fmt: skip


def _cheaper_reads(facts: Facts) -> Draft | None:
    knob = facts.knobs["random_page_cost"][0]
    now = facts.number(knob.name)
    after = None if now is None else stepped(now, CHEAP_READ, knob)
    if now is None or after is None:
        return None
    return Draft(
        facts, knob.name, False, facts.value(knob.name), as_value(after, knob),
        f"Lower random_page_cost of {facts.target} from {now:g} to {after:g}", None, (), Risk.LOW,
        "none known: plans change", "queries become slower", 0.5,
    )  # fmt: skip


def _pg_small_buffers(looks: Looks) -> Iterator[Finding]:
    facts = looks.facts
    shared = facts.figure("pg_settings_shared_buffers_bytes")
    size = facts.figure("pg_database_size_bytes")
    if shared is None or size is None or shared > DEFAULT_BUFFERS or size < 8 * shared:
        return
    yield found(
        looks, "shared_buffers are as small as after the installation",
        (f"shared_buffers are {amount(shared, 'B')}, the database has {amount(size, 'B')}",),
        "raise shared_buffers to a quarter of memory at the next restart",
    )  # fmt: skip


STANDING: dict[str, tuple[Rule, ...]] = {
    "redis": (_redis_no_limit, _redis_cache_refuses),
    "postgresql": (
        _switched_off("fsync", "a crash of the machine can destroy the database"),
        _switched_off("full_page_writes", "a crash of the machine can leave torn pages"),
        _switched_off("autovacuum", "dead rows pile up until transaction ids run out"),
        _pg_disk_prices,
        _pg_small_buffers,
    ),
}
"""Kind of a tool -> what is looked for, most urgent first."""


def all_findings(looks: Looks) -> list[Finding]:
    """What goes wrong now, then what is set badly; each title once."""
    standing = [one for rule in STANDING.get(looks.facts.kind, ()) for one in rule(looks)]
    by_title: dict[str, Finding] = {}
    for one in (*findings(looks), *standing):
        by_title.setdefault(one.title, one)
    return list(by_title.values())
