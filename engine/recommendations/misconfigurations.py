"""Misconfigurations: risky settings without a current problem, reported with low priority.

Each rule checks current settings and metrics; unknown values give no finding.
"""

from collections.abc import Iterator

from trimtab.engine.recommendations.one_off_check import (
    CheckRule,
    Finding,
    TargetReadings,
    check_target,
    make_finding,
)
from trimtab.engine.recommendations.remedies import ChangeDraft, format_amount, knob_value
from trimtab.engine.recommendations.target_facts import TargetFacts, step_towards
from trimtab.engine.types import Risk

MIN_KEYS = 100.0
"""Minimum number of keys to judge what a Redis is used for."""
SSD_PAGE_COST = 1.1
"""random_page_cost for memory and SSDs, where random reads cost hardly more than sequential ones."""
DEFAULT_BUFFERS = 128 * 2**20


def _redis_no_limit(looks: TargetReadings) -> Iterator[Finding]:
    facts = looks.facts
    if facts.knob_value("maxmemory") != 0 or facts.knob_number("maxmemory") is None:
        return
    used, host = facts.metric("redis_memory_used_bytes"), facts.metric("redis_total_system_memory_bytes")
    known = (
        (f"{format_amount(used, 'B')} are used, the host has {format_amount(host, 'B')}",)
        if used and host
        else ()
    )
    yield make_finding(
        looks, "memory has no limit", ("maxmemory is 0", *known),
        "set maxmemory below what the host can spare, and a policy that fits the data",
    )  # fmt: skip


def _redis_cache_refuses(looks: TargetReadings) -> Iterator[Finding]:
    facts = looks.facts
    keys, expiring = facts.metric("redis_db_keys"), facts.metric("redis_db_keys_expiring")
    if (
        facts.knob_value("maxmemory-policy") != "noeviction"
        or keys is None
        or keys < MIN_KEYS
        or expiring != keys
    ):
        return
    yield make_finding(
        looks, "a cache that refuses writes when it is full",
        (f"all {keys:.0f} keys have a time to live, as in a cache", "maxmemory-policy is noeviction"),
        "where all keys can be fetched again set maxmemory-policy to allkeys-lru or volatile-lru; a queue "
        "keeps noeviction",
    )  # fmt: skip


def _setting_is_off(name: str, harm: str) -> CheckRule:
    """Return a rule that reports a PostgreSQL safety setting that is off."""

    def rule(looks: TargetReadings) -> Iterator[Finding]:
        if looks.facts.metric(f"pg_settings_{name}") == 0.0:
            yield make_finding(
                looks, f"{name} is off", (harm,), f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
            )

    return rule


def _pg_disk_prices(looks: TargetReadings) -> Iterator[Finding]:
    """A database that fits into memory is planned with the costs of a spinning disk."""
    facts = looks.facts
    cost, size = facts.knob_number("random_page_cost"), facts.metric("pg_database_size_bytes")
    cached = facts.knob_number("effective_cache_size")
    if cost is None or size is None or cached is None or cost < 4.0 or size > cached:
        return
    yield make_finding(
        looks, "the planner takes memory for a spinning disk",
        (f"random_page_cost is {cost:g}",
         f"the database has {format_amount(size, 'B')}, of which {format_amount(cached, 'B')} can be cached"),
        f"lower random_page_cost step by step towards {SSD_PAGE_COST}, and look at slow queries after each",
        _lower_page_cost(facts),
    )  # fmt: skip


def _lower_page_cost(facts: TargetFacts) -> ChangeDraft | None:
    knob = facts.knobs["random_page_cost"][0]
    now = facts.knob_number(knob.name)
    after = None if now is None else step_towards(now, SSD_PAGE_COST, knob)
    if now is None or after is None:
        return None
    return ChangeDraft(
        facts, knob.name, False, facts.knob_value(knob.name), knob_value(after, knob),
        f"Lower random_page_cost of {facts.target} from {now:g} to {after:g}", None, (), Risk.LOW,
        "none known: plans change", "queries become slower", 0.5,
    )  # fmt: skip


def _pg_small_buffers(looks: TargetReadings) -> Iterator[Finding]:
    facts = looks.facts
    shared = facts.metric("pg_settings_shared_buffers_bytes")
    size = facts.metric("pg_database_size_bytes")
    if shared is None or size is None or shared > DEFAULT_BUFFERS or size < 8 * shared:
        return
    yield make_finding(
        looks, "shared_buffers are as small as after the installation",
        (f"shared_buffers are {format_amount(shared, 'B')}, the database has {format_amount(size, 'B')}",),
        "raise shared_buffers to a quarter of memory at the next restart",
    )  # fmt: skip


MISCONFIGURATION_RULES: dict[str, tuple[CheckRule, ...]] = {
    "redis": (_redis_no_limit, _redis_cache_refuses),
    "postgresql": (
        _setting_is_off("fsync", "a crash of the machine can destroy the database"),
        _setting_is_off("full_page_writes", "a crash of the machine can leave torn pages"),
        _setting_is_off("autovacuum", "dead rows pile up until transaction ids run out"),
        _pg_disk_prices,
        _pg_small_buffers,
    ),
}
"""Tool kind -> rules, most urgent first."""


def all_findings(looks: TargetReadings) -> list[Finding]:
    """Return current problems, then misconfigurations; one finding per title."""
    standing = [one for rule in MISCONFIGURATION_RULES.get(looks.facts.kind, ()) for one in rule(looks)]
    by_title: dict[str, Finding] = {}
    for one in (*check_target(looks), *standing):
        by_title.setdefault(one.title, one)
    return list(by_title.values())
