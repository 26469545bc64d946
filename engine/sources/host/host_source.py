"""Host source: CPU, load, memory, swap, disks, network, file handles and top processes of this machine."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import psutil
import structlog

from trimtab.engine.errors import SourceError
from trimtab.engine.ports import Clock
from trimtab.engine.settings import Host
from trimtab.engine.sources.host import host_metrics
from trimtab.engine.sources.host.host_metrics import Sample
from trimtab.engine.sources.host.top_processes import TopProcesses, scan_proc, scan_psutil
from trimtab.engine.sources.no_history import NoHistory
from trimtab.engine.sources.rates import NS, CounterRates
from trimtab.engine.types import Reading, SeriesInfo, SeriesKey

log = structlog.get_logger(__name__)

_NAN = float("nan")
_MAX_GAP_INTERVALS = 3.5
_MOUNTS_INTERVAL_NS = 60 * NS
_MAX_PROCESS_SCAN_RATIO = 0.003
"""Largest share of one core spent on scanning processes; expensive scans become less frequent."""


class HostSource(NoHistory):
    """Source of live metrics of the machine that Trimtab runs on; `host_metrics.HELP` lists them.

    Metrics that the system does not offer give no series; values that cannot be read now are NaN, never 0.
    Rates are NaN at the first read and over gaps of more than 3.5 intervals, such as a suspend.
    """

    name = "host"

    def __init__(self, settings: Host, clock: Clock, max_series: int = 20_000) -> None:
        self.interval_s = settings.interval
        self._clock = clock
        self._max_series = max_series
        self._metric_groups = MetricGroups()
        self._counter_rates = CounterRates(settings.interval * _MAX_GAP_INTERVALS)
        self._process_sampler = ProcessSampler(settings.top_processes)
        self._cpu_times: host_metrics.CpuTimes = {}
        self._mount_points: list[str] = []
        self._mounts_due_ns = 0
        self._keys: tuple[SeriesKey, ...] = ()
        self._skipped_series: tuple[str, ...] = ()

    async def open(self) -> None:
        """Connect to nothing. Raises SourceError when the system reports no CPU times."""
        try:
            psutil.cpu_times()
        except (OSError, RuntimeError) as error:
            raise SourceError(
                f"host: this system reports no CPU times ({error}); set sources.host.enabled: false"
            ) from error

    async def read(self) -> Reading:
        """Return the current metrics; those of processes carry the time of the last process scan."""
        return await asyncio.to_thread(self._read)

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return unit, kind and help of a series."""
        rate = key.metric.endswith("_per_second")
        return SeriesInfo(
            key,
            host_metrics.unit_of(key.metric),
            "rate" if rate else "gauge",
            host_metrics.HELP.get(key.metric, ""),
            is_transient=key.metric.startswith("host_process_"),
        )

    def skipped_series(self) -> Sequence[str]:
        """Return the series beyond `max_series`."""
        return self._skipped_series

    def detail(self) -> str:
        """Return one line about this machine."""
        cores, size = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
        return f"this machine: {cores} cores, {size:.0f} GiB memory, {len(self._keys)} series"

    async def close(self) -> None:
        """Do nothing: the source holds no resources."""

    def _read(self) -> Reading:
        now = self._clock.now()
        samples = [
            *self._read_cpu(),
            *self._read_levels(now),
            *self._counter_rates.update(self._read_counters(), time.monotonic()),
        ]
        times = [now] * len(samples)
        scanned_ns, processes = self._process_sampler.sample(now)
        samples += processes
        times += [scanned_ns] * len(processes)
        keys = tuple(key for key, _ in samples)
        self._skipped_series = tuple(str(key) for key in keys[self._max_series :])
        if keys[: self._max_series] != self._keys:
            self._keys = keys[: self._max_series]
        n = len(self._keys)
        values = np.array([value for _, value in samples[:n]], np.float64)
        return Reading(now, self._keys, np.array(times[:n], np.int64), values)

    def _read_cpu(self) -> list[Sample]:
        before, self._cpu_times = self._cpu_times, host_metrics.cpu_times()
        return list(host_metrics.cpu_ratios(before, self._cpu_times))

    def _read_levels(self, now: int) -> list[Sample]:
        if now >= self._mounts_due_ns:
            self._mount_points, self._mounts_due_ns = host_metrics.mount_points(), now + _MOUNTS_INTERVAL_NS
        read = self._metric_groups.read
        return [
            *read("load", host_metrics.load_averages),
            *read("memory", host_metrics.memory_levels),
            *read("handles", host_metrics.open_file_handles),
            *read("processes", host_metrics.process_count),
            *read("file systems", lambda: host_metrics.filesystem_usage(self._mount_points)),
        ]

    def _read_counters(self) -> list[Sample]:
        read = self._metric_groups.read
        return [
            *read("swap", host_metrics.swap_counters),
            *read("kernel", host_metrics.kernel_counters),
            *read("disks", host_metrics.disk_counters),
            *read("network", host_metrics.network_counters),
        ]


class MetricGroups:
    """Reader of metric groups; the known series of a group that cannot be read are NaN."""

    def __init__(self) -> None:
        self._keys_by_group: dict[str, list[SeriesKey]] = {}
        self._failing: set[str] = set()

    def read(self, name: str, read_group: Callable[[], Iterable[Sample]]) -> list[Sample]:
        """Return the samples of a group."""
        try:
            samples = list(read_group())
        except (OSError, RuntimeError, ValueError) as error:
            if name not in self._failing:
                log.warning("host_metrics_unreadable", group=name, error=str(error))
            self._failing.add(name)
            return [(key, _NAN) for key in self._keys_by_group.get(name, [])]
        self._failing.discard(name)
        self._keys_by_group[name] = [key for key, _ in samples]
        return samples


class ProcessSampler:
    """Scans processes, less often when a scan is expensive. size : names to watch; 0 = none."""

    def __init__(self, size: int, proc: Path = Path("/proc")) -> None:
        self._top = TopProcesses(size)
        self._proc = proc
        self._due_s = 0.0
        self._last_sample: tuple[int, list[Sample]] = (0, [])

    def sample(self, now: int) -> tuple[int, list[Sample]]:
        """Return the time of the last scan (int64 ns) and its samples."""
        started_s = time.monotonic()
        if self._top.size == 0 or started_s < self._due_s:
            return self._last_sample
        cpu_before_s = time.thread_time()
        scan = scan_proc(self._proc) if (self._proc / "uptime").exists() else scan_psutil(now / NS)
        samples: list[Sample] = []
        for name, usage in self._top.update(scan, started_s).items():
            samples.append((host_metrics.host_series("host_process_cpu_ratio", name=name), usage.cpu_ratio))
            memory = host_metrics.host_series("host_process_resident_memory_bytes", name=name)
            samples.append((memory, usage.rss_bytes))
        self._due_s = started_s + (time.thread_time() - cpu_before_s) / _MAX_PROCESS_SCAN_RATIO
        self._last_sample = (now, samples)
        return self._last_sample
