"""Host source."""

import math
from itertools import count

import numpy as np
import psutil
import pytest

from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Host
from trimtab.engine.sources.host import host_metrics
from trimtab.engine.sources.host.host_source import HostSource, MetricGroups, ProcessSampler
from trimtab.engine.sources.host.top_processes import ProcessSample, TopProcesses, scan_proc, scan_psutil
from trimtab.engine.sources.rates import CounterRates

NAN = float("nan")


@pytest.fixture
def source():
    """A host source on a fake clock."""
    return HostSource(Host(), FakeClock())


async def test_first_read_has_levels_and_no_rates(source):
    """At the first read levels are known and rates are NaN, never 0."""
    await source.open()
    reading = await source.read()
    values = dict(zip(map(str, reading.keys), reading.values, strict=True))
    assert values["host_load1"] >= 0
    assert values["host_memory_available_bytes"] > 0
    assert math.isnan(values['host_cpu_busy_ratio{core="0"}'])
    assert all(math.isnan(v) for k, v in values.items() if "_per_second" in k)


async def test_later_reads_are_complete_and_reuse_the_keys(source):
    """From the second read on rates are known, ratios are 0..1 and the key tuple is reused."""
    await source.read()
    second, third = await source.read(), await source.read()
    assert second.complete
    rates = [v for k, v in zip(second.keys, second.values, strict=True) if k.metric.endswith("_per_second")]
    assert rates
    assert np.isfinite(rates).all()
    modes = {k.metric: v for k, v in zip(third.keys, third.values, strict=True) if "mode" in dict(k.labels)}
    assert all(math.isnan(v) or 0 <= v <= 1 for v in modes.values())
    if second.keys == third.keys:
        assert second.keys is third.keys


async def test_names_units_and_help(source):
    """Every series has a host_ name, a help text, and a unit if it has one."""
    reading = await source.read()
    for key in reading.keys:
        assert key.source == "host"
        assert source.info(key).help, key
    cores = {dict(k.labels)["core"] for k in reading.keys if k.metric == "host_cpu_busy_ratio"}
    assert cores == {str(i) for i in range(psutil.cpu_count())}
    busy = next(k for k in reading.keys if k.metric == "host_cpu_busy_ratio")
    assert source.info(busy).unit == "ratio"


async def test_loopback_and_pseudo_devices_are_skipped(source):
    """Loopback, veth, loop devices and partitions give no series."""
    labels = [dict(key.labels) for key in (await source.read()).keys]
    assert not any(label_set.get("interface", "").startswith(("lo", "veth")) for label_set in labels)
    assert not any(label_set.get("device", "").startswith(("loop", "ram")) for label_set in labels)


async def test_series_over_the_cap_are_skipped():
    """Series beyond the cap are skipped and listed."""
    source = HostSource(Host(), FakeClock(), max_series=3)
    reading = await source.read()
    assert len(reading.keys) == len(reading.values) == 3
    assert any("host_load1" in name for name in source.skipped_series())


async def test_no_history_and_no_replacement(source):
    """The host has no history and no replaceable series."""
    assert [chunk async for chunk in source.history(0)] == []
    key = host_metrics.host_series("host_load1")
    assert not source.is_replacement(key, key)
    await source.close()


async def test_missing_cpu_times_are_an_error(monkeypatch, source):
    """Without CPU times the error says which setting to change."""
    monkeypatch.setattr(psutil, "cpu_times", lambda: (_ for _ in ()).throw(OSError("no /proc")))
    with pytest.raises(SourceError, match=r"sources\.host\.enabled: false"):
        await source.open()


def test_a_group_that_cannot_be_read_is_unknown():
    """Known series of an unreadable group are NaN; they neither vanish nor become 0."""
    key, groups, answers = host_metrics.host_series("host_x"), MetricGroups(), count()

    def figures():
        if next(answers) == 1:
            raise PermissionError("no")
        return [(key, 1.0)]

    assert groups.read("x", figures) == [(key, 1.0)]
    [(same, value)] = groups.read("x", figures)
    assert same == key
    assert math.isnan(value)
    assert groups.read("x", figures) == [(key, 1.0)]


def test_rates_with_added_and_removed_devices():
    """A new device has no rate at first, others keep theirs; a reset is NaN."""
    a, b = host_metrics.host_series("host_a"), host_metrics.host_series("host_b")
    counters = CounterRates(max_gap_s=20.0)
    counters.update([(a, 10.0)], 0.0)
    first = dict(counters.update([(b, 5.0), (a, 20.0)], 5.0))
    assert first[a] == 2.0
    assert math.isnan(first[b])
    second = dict(counters.update([(b, 10.0), (a, 0.0)], 10.0))
    assert second[b] == 1.0
    assert math.isnan(second[a])
    assert math.isnan(dict(counters.update([(b, 20.0)], 99.0))[b])


def test_cpu_ratios_are_of_the_elapsed_time():
    """Busy is neither idle nor waiting; a core without elapsed time is NaN."""
    before = {"0": {"user": 1.0, "idle": 1.0, "iowait": 0.0}, "1": {"user": 0.0, "idle": 0.0, "iowait": 0.0}}
    after = {"0": {"user": 2.0, "idle": 3.0, "iowait": 1.0}, "1": before["1"]}
    shares = {str(k): v for k, v in host_metrics.cpu_ratios(before, after)}
    assert shares['host_cpu_busy_ratio{core="0"}'] == 0.25
    assert math.isnan(shares['host_cpu_busy_ratio{core="1"}'])
    assert shares['host_cpu_mode_ratio{mode="user"}'] == 0.25


def process(pid, name, cpu_s=0.0, rss=1.0, age_s=1e6, started=1.0):
    return ProcessSample(pid, name, started, age_s, cpu_s, rss)


def test_usage_is_summed_by_name():
    """Processes of one name are summed; CPU is the increase since the last scan."""
    top = TopProcesses(5)
    top.update([process(1, "web", 10, 100), process(2, "web", 20, 50)], 0.0)
    usage = top.update([process(1, "web", 12, 100), process(2, "web", 21, 50)], 10.0)["web"]
    assert (usage.cpu_ratio, usage.rss_bytes, usage.count) == (pytest.approx(0.3), 150, 2)


def test_a_reused_pid_counts_from_its_own_start():
    """A new process with a reused pid counts from its own start."""
    top = TopProcesses(5)
    top.update([process(1, "web", 1000)], 0.0)
    usage = top.update([process(1, "web", 3, age_s=5, started=99.0)], 10.0)["web"]
    assert usage.cpu_ratio == pytest.approx(0.3)


def test_a_name_is_watched_while_it_runs():
    """A name that leaves the top is watched until its last process ends."""
    top = TopProcesses(2)
    heavy = [process(1, "a", rss=9), process(2, "b", rss=8)]
    top.update(heavy, 0.0)
    assert set(top.update(heavy, 5.0)) == {"a", "b"}
    others = [process(10 + i, f"big{i}", rss=100 + i) for i in range(3)]
    for i in range(30):
        values = top.update([*heavy, *others], 10.0 + 5 * i)
    assert {"a", "b"} <= set(values)
    assert "a" not in top.update([heavy[1], *others], 200.0)


def test_short_lived_processes_get_no_series():
    """A young process is not watched, however heavy it is."""
    top = TopProcesses(2)
    top.update([process(1, "a")], 0.0)
    top.update([process(1, "a")], 5.0)
    for i in range(30):
        values = top.update(
            [process(1, "a"), process(2, "compiler", cpu_s=5.0 * i, rss=99, age_s=5.0 * i)], 10 + 5 * i
        )
    assert set(values) == {"a"}


def test_never_more_than_three_times_the_size():
    """At most three times `size` names are watched."""
    top = TopProcesses(1)
    for i in range(200):
        running = [process(j, f"p{j}", rss=j + i * (j == i % 50)) for j in range(50)]
        values = top.update(running, 60.0 * i)
    assert len(values) <= 3


def test_scan_reads_every_process(tmp_path):
    """Unusual names are read, kernel threads share a name, and a vanished process is no error."""
    stat = "{pid} ({name}) S {parent}" + " 0" * 9 + " 150 50 0 0 0 0 0 0 1000 0 3 0\n"
    for pid, name, parent in ((1, "init", 0), (2, "kthreadd", 0), (9, "kworker/0:1", 2), (77, "a (b) c", 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat.format(pid=pid, name=name, parent=parent))
    (tmp_path / "88").mkdir()
    (tmp_path / "uptime").write_text("100.0 50.0\n")
    found = {p.pid: p for p in scan_proc(tmp_path)}
    assert {pid: p.name for pid, p in found.items()} == {1: "init", 2: "kernel", 9: "kernel", 77: "a (b) c"}
    assert found[77].cpu_s == pytest.approx(2.0)
    assert found[77].age_s == pytest.approx(90.0)


def test_scan_without_proc_finds_this_process():
    """Without /proc the scan uses psutil."""
    process = psutil.Process()
    usage = next(p for p in scan_psutil(process.create_time() + 1) if p.pid == process.pid)
    assert usage.name == process.name()
    assert usage.rss_bytes > 0


def test_expensive_scans_are_less_frequent(monkeypatch):
    """After an expensive scan the next one is later, and samples keep the time of their scan."""
    now_s, spent_s = [100.0], count(0.0, 0.05)
    monkeypatch.setattr("trimtab.engine.sources.host.host_source.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr("trimtab.engine.sources.host.host_source.time.thread_time", lambda: next(spent_s))
    looks = ProcessSampler(3)
    assert looks.sample(1)[0] == 1
    now_s[0] += 5
    assert looks.sample(2)[0] == 1
    now_s[0] += 15
    assert looks.sample(3)[0] == 3
