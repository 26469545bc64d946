"""The machine it runs on: CPU, load, memory, swap, disks, network, file handles, heaviest processes."""

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
from trimtab.engine.sources.host import host_metrics as figures
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
"""At most this share of a core goes into looking at processes; where a look is dear, looks are rarer."""


class HostSource(NoHistory):
    """Live figures of the machine that Trimtab runs on; see `host_figures.HELP` for their names.

    What this system does not tell gives no series; what cannot be read now is NaN, never 0. Rates are
    NaN at the first read and over more than 3.5 intervals (the machine slept).
    """

    name = "host"

    def __init__(self, settings: Host, clock: Clock, max_series: int = 20_000) -> None:
        self.interval_s = settings.interval
        self._clock = clock
        self._max_series = max_series
        self._metric_groups = MetricGroups()
        self._counter_rates = CounterRates(settings.interval * _MAX_GAP_INTERVALS)
        self._process_sampler = ProcessSampler(settings.top_processes)
        self._cpu_times: figures.CpuTimes = {}
        self._mount_points: list[str] = []
        self._mounts_due_ns = 0
        self._keys: tuple[SeriesKey, ...] = ()
        self._skipped_series: tuple[str, ...] = ()

    async def open(self) -> None:
        """Nothing to connect to. Raises SourceError where this system tells nothing."""
        try:
            psutil.cpu_times()
        except (OSError, RuntimeError) as error:
            raise SourceError(
                f"host: this system tells no CPU times ({error}); write sources.host.enabled: false"
            ) from error

    async def read(self) -> Reading:
        """The figures of now; those of processes carry the time at which they were looked at."""
        return await asyncio.to_thread(self._read)

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Unit and help of one of its series."""
        rate = key.metric.endswith("_per_second")
        return SeriesInfo(
            key,
            figures.unit_of(key.metric),
            "rate" if rate else "gauge",
            figures.HELP.get(key.metric, ""),
            is_transient=key.metric.startswith("host_process_"),
        )

    def skipped_series(self) -> Sequence[str]:
        """Series over the cap."""
        return self._skipped_series

    def detail(self) -> str:
        """One line about this machine."""
        cores, size = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
        return f"this machine: {cores} cores, {size:.0f} GiB memory, {len(self._keys)} series"

    async def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> Reading:
        now = self._clock.now()
        samples = [
            *self._read_cpu(),
            *self._read_levels(now),
            *self._counter_rates.update(self._read_counters(), time.monotonic()),
        ]
        times = [now] * len(samples)
        looked_at, processes = self._process_sampler.sample(now)
        samples += processes
        times += [looked_at] * len(processes)
        keys = tuple(key for key, _ in samples)
        self._skipped_series = tuple(str(key) for key in keys[self._max_series :])
        if keys[: self._max_series] != self._keys:
            self._keys = keys[: self._max_series]
        n = len(self._keys)
        values = np.array([value for _, value in samples[:n]], np.float64)
        return Reading(now, self._keys, np.array(times[:n], np.int64), values)

    def _read_cpu(self) -> list[Sample]:
        before, self._cpu_times = self._cpu_times, figures.cpu_times()
        return list(figures.cpu_ratios(before, self._cpu_times))

    def _read_levels(self, now: int) -> list[Sample]:
        if now >= self._mounts_due_ns:
            self._mount_points, self._mounts_due_ns = figures.mount_points(), now + _MOUNTS_INTERVAL_NS
        ask = self._metric_groups.read
        return [
            *ask("load", figures.load_averages),
            *ask("memory", figures.memory_levels),
            *ask("handles", figures.open_file_handles),
            *ask("processes", figures.process_count),
            *ask("file systems", lambda: figures.filesystem_usage(self._mount_points)),
        ]

    def _read_counters(self) -> list[Sample]:
        ask = self._metric_groups.read
        return [
            *ask("swap", figures.swap_counters),
            *ask("kernel", figures.kernel_counters),
            *ask("disks", figures.disk_counters),
            *ask("network", figures.network_counters),
        ]


class MetricGroups:
    """Asks for groups of figures; one that cannot be read now is NaN for the series that it had."""

    def __init__(self) -> None:
        self._keys_by_group: dict[str, list[SeriesKey]] = {}
        self._failing: set[str] = set()

    def read(self, name: str, figures_of: Callable[[], Iterable[Sample]]) -> list[Sample]:
        """Samples of a group."""
        try:
            samples = list(figures_of())
        except (OSError, RuntimeError, ValueError) as error:
            if name not in self._failing:
                log.warning("host figures cannot be read, they are unknown", group=name, error=str(error))
            self._failing.add(name)
            return [(key, _NAN) for key in self._keys_by_group.get(name, [])]
        self._failing.discard(name)
        self._keys_by_group[name] = [key for key, _ in samples]
        return samples


class ProcessSampler:
    """Looks at processes, less often where that is dear."""

    def __init__(self, size: int, proc: Path = Path("/proc")) -> None:
        self._top = TopProcesses(size)
        self._proc = proc
        self._due_s = 0.0
        self._last_sample: tuple[int, list[Sample]] = (0, [])

    def sample(self, now: int) -> tuple[int, list[Sample]]:
        """When processes were looked at last, and what they used then."""
        begun_s = time.monotonic()
        if self._top.size == 0 or begun_s < self._due_s:
            return self._last_sample
        cost_s = time.thread_time()
        scan = scan_proc(self._proc) if (self._proc / "uptime").exists() else scan_psutil(now / NS)
        samples: list[Sample] = []
        for name, usage in self._top.update(scan, begun_s).items():
            samples.append((figures.host_series("host_process_cpu_ratio", name=name), usage.cpu_ratio))
            memory = figures.host_series("host_process_resident_memory_bytes", name=name)
            samples.append((memory, usage.rss_bytes))
        self._due_s = begun_s + (time.thread_time() - cost_s) / _MAX_PROCESS_SCAN_RATIO
        self._last_sample = (now, samples)
        return self._last_sample
