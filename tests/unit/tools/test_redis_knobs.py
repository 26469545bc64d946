"""Redis knobs, computed from INFO alone."""

import pytest

from trimtab.engine.tools.memory_budget import MemoryBudget
from trimtab.engine.tools.redis import redis_knobs as rules

GB = 2**30
FULL = {"used_memory": GB, "used_memory_rss": GB, "maxmemory": GB}
ROOM = MemoryBudget(10 * GB, GB, "this host")

SUMS = [
    # a pure cache: its data and other processes
    ({}, False, 2 * GB, 3 * GB, "maxmemory 2.0 GiB"),
    # snapshots, none taken yet: the data counts twice
    ({}, True, 2 * GB, 5 * GB, "fork copy-on-write (worst case) 2.0 GiB"),
    # a measured fork: the same ratio of the larger data
    ({"rdb_last_cow_size": GB // 4}, True, 2 * GB, 3.5 * GB, "fork copy-on-write (25% at the last one)"),
    # a fork that copied nothing still counts as 10 %
    ({"rdb_last_cow_size": 1}, True, 2 * GB, 3.2 * GB, "10% at the last one"),
    # an append-only file forks without snapshots
    ({"aof_enabled": 1}, False, 2 * GB, 5 * GB, "fork copy-on-write"),
    # a replica causes a fork and has a buffer
    ({"connected_slaves": 2}, False, 2 * GB, 5.5 * GB, "buffers of 2 replicas 512.0 MiB"),
    # fragmentation grows with the data
    ({"used_memory_rss": 1.5 * GB}, False, 2 * GB, 4 * GB, "fragmentation 1.0 GiB"),
    # little data has no meaningful fragmentation ratio
    (
        {"used_memory": 2**20, "used_memory_rss": 2**20 * 9},
        False,
        2 * GB,
        3 * GB + 2**23,
        "fragmentation 8.0 MiB",
    ),
]


@pytest.mark.parametrize(("info", "saves", "maxmemory", "projected", "message"), SUMS)
def test_memory_projection(info, saves, maxmemory, projected, message):
    """The worst case is data, fragmentation, fork copy, replica buffers and other processes."""
    projection = rules.project_memory({**FULL, **info}, maxmemory, ROOM, has_snapshots=saves)
    assert projection.projected_bytes == pytest.approx(projected, rel=1e-6)
    assert message in str(projection)


@pytest.mark.parametrize("saves", [True, False])
@pytest.mark.parametrize("info", [{}, {"connected_slaves": 1}, {"used_memory_rss": 2 * GB}])
def test_the_highest_value_just_fits(info, saves):
    """The bound of maxmemory is the largest value whose projection fits."""
    info = {**FULL, **info}
    high = rules.bound_maxmemory(info, ROOM, has_snapshots=saves).high
    assert rules.project_memory(info, int(high), ROOM, has_snapshots=saves).fits
    assert not rules.project_memory(info, int(high) + 2**20, ROOM, has_snapshots=saves).fits


def test_without_a_limit_there_is_no_bound():
    """With an unknown memory limit maxmemory has no upper bound."""
    knob = rules.bound_maxmemory(FULL, MemoryBudget(None), has_snapshots=True)
    assert knob.high is None
    assert knob.step == GB


@pytest.mark.parametrize("name", rules.KNOB_SPECS)
def test_values_round_trip(name):
    """A formatted value parses to the same value; None gives the default."""
    spec = rules.KNOB_SPECS[name]
    values = [spec.default, spec.knob.low and int(spec.knob.low), *spec.knob.choices]
    for value in [value for value in values if value is not None]:
        assert rules.parse_value(name, rules.format_value(name, value)) == value
    assert rules.parse_value(name, rules.format_value(name, None)) == spec.default


def test_whole_floats_are_numbers():
    """A whole float is accepted as an integer."""
    assert rules.validate_value("maxmemory", 13_107_200.0) == 13_107_200
    with pytest.raises(rules.RefusedError, match="whole number"):
        rules.validate_value("maxmemory", 13_107_200.5)
