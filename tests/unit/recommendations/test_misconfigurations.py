"""Misconfiguration rules: settings that are wrong before anything happens."""

import pytest

from tests.builders.series import START
from trimtab.engine.recommendations.finding_recommendations import recommendation_for
from trimtab.engine.recommendations.misconfigurations import all_findings
from trimtab.engine.recommendations.one_off_check import TargetReadings
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Mode

GIB = 2**30
KNOBS = {"random_page_cost": Knob("random_page_cost", KnobType.FLOAT, low=1, high=4, grain=0.01)}


def facts(kind, knobs=None, metrics=None, **changed):
    """Return target facts with these knob values and metrics."""
    given = {
        name: (
            KNOBS.get(name, Knob(name, KnobType.INT)),
            KnobReading(value, True, Lasts.UNKNOWN),
        )
        for name, value in (knobs or {}).items()
    }
    return TargetFacts(kind, kind, "it", metrics or {}, given, **changed)


def titles(found):
    """Return the titles of the findings on a target."""
    return [one.title for one in all_findings(TargetReadings(found, {}, 1.0))]


CACHE = {"redis_db_keys": 500.0, "redis_db_keys_expiring": 500.0}
POLICY = "maxmemory-policy"
SIZES = {"pg_settings_shared_buffers_bytes": 128.0 * 2**20, "pg_database_size_bytes": 2.0 * GIB}
FINDINGS = [
    ("redis", {"maxmemory": 0}, {}, ["memory has no limit"]),
    # reported once, by the more specific rule
    (
        "redis", {"maxmemory": 0},
        {"redis_memory_used_bytes": 6.0 * GIB, "redis_total_system_memory_bytes": 8.0 * GIB},
        ["memory has no limit"],
    ),
    ("redis", {"maxmemory": GIB}, {}, []),
    # unknown
    ("redis", {"maxmemory": None}, {}, []),
    ("redis", {}, {}, []),
    ("redis", {POLICY: "noeviction"}, CACHE, ["a cache that refuses writes when it is full"]),
    # keys without TTL: a queue shares the cache
    ("redis", {POLICY: "noeviction"}, {**CACHE, "redis_db_keys": 501.0}, []),
    ("redis", {POLICY: "noeviction"}, {"redis_db_keys": 9.0, "redis_db_keys_expiring": 9.0}, []),
    ("redis", {POLICY: "allkeys-lru"}, CACHE, []),
    ("postgresql", {}, {"pg_settings_autovacuum": 0.0}, ["autovacuum is off"]),
    ("postgresql", {}, {"pg_settings_autovacuum": 1.0}, []),
    (
        "postgresql", {}, {"pg_settings_fsync": 0.0, "pg_settings_full_page_writes": 0.0},
        ["fsync is off", "full_page_writes is off"],
    ),
    (
        "postgresql", {"random_page_cost": 4.0, "effective_cache_size": 4 * GIB},
        {"pg_database_size_bytes": 1.0 * GIB}, ["the planner takes memory for a spinning disk"],
    ),
    # it may be on disk
    (
        "postgresql", {"random_page_cost": 4.0, "effective_cache_size": GIB},
        {"pg_database_size_bytes": 2.0 * GIB}, [],
    ),
    (
        "postgresql", {"random_page_cost": 1.1, "effective_cache_size": 4 * GIB},
        {"pg_database_size_bytes": 1.0 * GIB}, [],
    ),
    ("postgresql", {}, SIZES, ["shared_buffers are as small as after the installation"]),
    ("postgresql", {}, {**SIZES, "pg_database_size_bytes": 0.5 * GIB}, []),
    ("pm2", {"maxmemory": 0}, {}, []),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "knobs", "metrics", "found"), FINDINGS)
def test_findings(kind, knobs, metrics, found):
    """Each rule reports its misconfiguration and nothing when the metrics do not show it."""
    assert titles(facts(kind, knobs, metrics)) == found


@pytest.mark.parametrize(
    ("mode", "writable", "given"),
    [(Mode.AUTO, True, Mode.APPROVE), (Mode.RECOMMEND, True, Mode.RECOMMEND),
     (Mode.AUTO, False, Mode.RECOMMEND), (Mode.OFF, True, None)],
)  # fmt: skip
def test_a_change_without_an_incident_is_never_automatic(mode, writable, given):
    """A finding in mode auto needs approval, in mode off it is omitted; it changes one step of the knob."""
    target_facts = facts(
        "postgresql", {"random_page_cost": 4.0, "effective_cache_size": 4 * GIB},
        {"pg_database_size_bytes": 1.0 * GIB}, modes={"random_page_cost": mode}, writable=writable,
    )  # fmt: skip
    (finding,) = all_findings(TargetReadings(target_facts, {}, 1.0))
    made = recommendation_for(START, "id", finding, target_facts, lambda draft: f"set {draft.after}")
    if given is None:
        assert made is None
    else:
        assert (made.mode, made.before, made.after, made.command) == (given, 4.0, 3.0, "set 3.0")
        assert made.confidence < 0.5


def test_a_manual_finding_names_no_knob():
    """A finding that only an operator can fix holds instructions and no knob."""
    target_facts = facts("postgresql", {}, {"pg_settings_autovacuum": 0.0})
    (finding,) = all_findings(TargetReadings(target_facts, {}, 1.0))
    made = recommendation_for(START, "id", finding, target_facts, lambda _: "")
    assert (made.subject, made.is_action, made.mode) == ("by hand", True, Mode.RECOMMEND)
    assert made.evidence[-1].startswith("ALTER SYSTEM SET autovacuum = on")
    assert made.fingerprint == "postgresql/it/autovacuum is off/look"
