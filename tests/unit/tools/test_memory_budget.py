"""Memory budget: limits of hosts and control groups."""

import os

import psutil
import pytest

from trimtab.engine.tools.memory_budget import (
    MAX_FILL_RATIO,
    MemoryBudget,
    MemoryProjection,
    cgroup_budgets,
    find_memory_budget,
    process_family_bytes,
)

GB = 2**30


def make_cgroup(folder, **files):
    """A control group with these files; a double underscore in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_enclosing_control_groups(tmp_path):
    """Every enclosing group has its limit and its other members; `max` is no limit."""
    make_cgroup(tmp_path / "a", memory__max=f"{4 * GB}\n", memory__stat=f"anon {3 * GB}\nshmem 0\nfile 9\n")
    make_cgroup(tmp_path / "a/b", memory__max="max\n", memory__stat="anon 1\n")
    make_cgroup(tmp_path / "a/b/c", memory__max=f"{2 * GB}\n", memory__stat=f"anon {GB}\nshmem 100\n")
    budgets = cgroup_budgets("0::/a/b/c\n", GB, tmp_path)
    assert [(b.limit_bytes, b.others_bytes) for b in budgets] == [(2 * GB, 100), (4 * GB, 2 * GB)]


def test_version_1_of_control_groups(tmp_path):
    """The memory controller of version 1 is read, including its value for no limit."""
    make_cgroup(tmp_path / "memory/a", memory__limit_in_bytes=str(GB), memory__stat="total_rss 500\n")
    make_cgroup(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712")
    budgets = cgroup_budgets("5:cpu,cpuacct:/x\n4:memory:/a\n", 100, tmp_path)
    assert [(b.limit_bytes, b.others_bytes) for b in budgets] == [(GB, 400)]


@pytest.mark.parametrize("groups", ["", "0::/gone\n", "3:cpu:/x\n"])
def test_no_limiting_control_group(tmp_path, groups):
    """Without a limiting group there is no budget."""
    assert cgroup_budgets(groups, 0, tmp_path) == []


def test_a_process_of_this_machine():
    """A local process is limited by this host, or by a tighter memory_limit."""
    process = psutil.Process()
    budget = find_memory_budget(process.pid, process.create_time(), process.memory_info().rss, None)
    assert budget.limit_bytes is not None
    assert budget.limit_bytes <= psutil.virtual_memory().total
    assert find_memory_budget(process.pid, process.create_time(), 0, 1000) == MemoryBudget(
        1000, 0, "its memory_limit"
    )


@pytest.mark.parametrize(
    ("pid", "started"),
    [(None, 0.0), (os.getpid(), 1000.0), (2**30, 0.0)],
    ids=["none", "of another", "nobody's"],
)
def test_a_process_of_another_machine(pid, started):
    """The memory of a non-local process is unknown unless memory_limit is set."""
    assert find_memory_budget(pid, started, 0, None) == MemoryBudget(None)
    assert find_memory_budget(pid, started, 0, GB) == MemoryBudget(GB, 0, "its memory_limit")


def test_an_unknown_limit_never_fits():
    """A projection never fits an unknown limit."""
    projection = MemoryProjection((("maxmemory", 1),), MemoryBudget(None))
    assert not projection.fits
    assert str(projection) == "maxmemory 1 B = 1 B; the memory limit of its machine is unknown"
    edge = MemoryProjection((("a", MAX_FILL_RATIO * GB),), MemoryBudget(GB, scope="this host"))
    assert edge.fits
    assert not MemoryProjection((("a", MAX_FILL_RATIO * GB + 1),), MemoryBudget(GB)).fits


def test_shared_memory_counts_once():
    """A process family uses at least the memory of one process and at most the sum."""
    process, parent = psutil.Process(), psutil.Process().parent()
    family = [parent, *parent.children()]
    used = process_family_bytes(process.pid)
    assert 0 < used <= 1.2 * sum(each.memory_info().rss for each in family)
    assert process_family_bytes(2**30) == 0
