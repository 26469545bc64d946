"""Top processes of this machine by name: CPU and memory summed over the processes of one name.

On Linux the scan reads /proc/<pid>/stat only, which costs a twentieth of a psutil object.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ENTER_AFTER_S = 60.0
"""A name is watched after it has been among the top for this long without a break ..."""
MIN_PROCESS_AGE_S = 600.0
"""... and its oldest process is this old: short-lived processes get no series."""
_KTHREADD = 2
_FIRST_FULL_SCAN = 2


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment.

    cpu_s        : CPU seconds used since it started
    start_time_s : since boot (Linux) or since 1970; identifies a process together with its pid
    age_s        : seconds since it started
    """

    pid: int
    name: str
    start_time_s: float
    age_s: float
    cpu_s: float
    rss_bytes: float


def scan_proc(root: Path = Path("/proc")) -> Iterator[ProcessSample]:
    """Yield every visible process under root; kernel threads share the name "kernel"."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    uptime_s = float((root / "uptime").read_text().split()[0])
    base = str(root)
    for entry in os.listdir(base):  # noqa: PTH208 - a Path object per process doubles the cost
        if not entry.isdigit():
            continue
        try:
            handle = os.open(f"{base}/{entry}/stat", os.O_RDONLY)
        except OSError:
            continue  # it has ended, or may not be read
        try:
            text = os.read(handle, 2048).decode(errors="replace")
        except OSError:
            continue
        finally:
            os.close(handle)
        head, _, tail = text.rpartition(")")
        fields = tail.split()
        pid, kernel = int(entry), entry == str(_KTHREADD) or fields[1] == str(_KTHREADD)
        started_s = int(fields[19]) / tick
        yield ProcessSample(
            pid=pid,
            name="kernel" if kernel else head.partition("(")[2],
            start_time_s=started_s,
            age_s=uptime_s - started_s,
            cpu_s=(int(fields[11]) + int(fields[12])) / tick,
            rss_bytes=float(int(fields[21]) * page),
        )


def scan_psutil(now_s: float) -> Iterator[ProcessSample]:
    """Yield every process, on systems without /proc; unreadable values are NaN."""
    nan = float("nan")
    for process in psutil.process_iter(["pid", "name", "create_time", "cpu_times", "memory_info"]):
        info = process.info
        cpu, memory = info["cpu_times"], info["memory_info"]
        started = info["create_time"] or 0.0
        yield ProcessSample(
            pid=info["pid"], name=info["name"] or "?", start_time_s=started, age_s=now_s - started,
            cpu_s=cpu.user + cpu.system if cpu else nan, rss_bytes=float(memory.rss) if memory else nan,
        )  # fmt: skip


@dataclass(slots=True)
class ProcessUsage:
    """Resources used by the processes of one name. cpu_ratio : 1 = one busy core; NaN = unknown yet."""

    cpu_ratio: float = float("nan")
    rss_bytes: float = 0.0
    count: int = 0
    age_s: float = 0.0


@dataclass(slots=True)
class TopProcesses:
    """Chooses the process names to watch and sums their resource use.

    The `size` heaviest names of the second scan come first. Later a name is added once it has been among
    the heaviest for a minute and its oldest process is ten minutes old. A watched name stays while any
    process has it. At most 3 * `size` names are watched.
    """

    size: int
    watched: set[str] = field(default_factory=set)
    _last_cpu_s: dict[tuple[int, float], float] = field(default_factory=dict)
    _last_scan_s: float | None = None
    _scan_count: int = 0
    _top_since_s: dict[str, float] = field(default_factory=dict)
    _smoothed_cpu: dict[str, float] = field(default_factory=dict)

    def update(self, processes: Iterable[ProcessSample], now_s: float) -> dict[str, ProcessUsage]:
        """Return the usage of the watched names that have a process, sorted by name."""
        usage = self._usage(list(processes), now_s)
        self._scan_count += 1
        top = self._heaviest(usage)
        self._top_since_s = {name: self._top_since_s.get(name, now_s) for name in top}
        self.watched &= usage.keys()
        if self._scan_count == _FIRST_FULL_SCAN:
            self.watched.update(top)
        for name in top:
            settled = (
                usage[name].age_s >= MIN_PROCESS_AGE_S and now_s - self._top_since_s[name] >= ENTER_AFTER_S
            )
            if self._scan_count > _FIRST_FULL_SCAN and settled and len(self.watched) < 3 * self.size:
                self.watched.add(name)
        return {name: usage[name] for name in sorted(self.watched)}

    def _usage(self, processes: list[ProcessSample], now_s: float) -> dict[str, ProcessUsage]:
        elapsed_s = 0.0 if self._last_scan_s is None else now_s - self._last_scan_s
        usage: dict[str, ProcessUsage] = {}
        cpu: dict[str, float] = {}
        for p in processes:
            total = usage.setdefault(p.name, ProcessUsage())
            total.rss_bytes += p.rss_bytes
            total.count += 1
            total.age_s = max(total.age_s, p.age_s)
            is_new = p.age_s < elapsed_s
            before = self._last_cpu_s.get((p.pid, p.start_time_s), 0.0 if is_new else p.cpu_s)
            cpu[p.name] = cpu.get(p.name, 0.0) + max(p.cpu_s - before, 0.0)
        if elapsed_s > 0:
            for name, used_s in cpu.items():
                usage[name].cpu_ratio = used_s / elapsed_s
        self._last_cpu_s = {(p.pid, p.start_time_s): p.cpu_s for p in processes}
        self._last_scan_s = now_s
        return usage

    def _heaviest(self, usage: dict[str, ProcessUsage]) -> list[str]:
        """Return the heaviest names: half by CPU, smoothed over about a minute, the rest by memory."""
        for name, total in usage.items():
            latest = 0.0 if math.isnan(total.cpu_ratio) else total.cpu_ratio
            self._smoothed_cpu[name] = 0.9 * self._smoothed_cpu.get(name, latest) + 0.1 * latest
        self._smoothed_cpu = {name: v for name, v in self._smoothed_cpu.items() if name in usage}
        by_cpu = sorted(
            (n for n, v in self._smoothed_cpu.items() if v > 0), key=lambda n: (-self._smoothed_cpu[n], n)
        )
        by_memory = sorted(usage, key=lambda n: (-usage[n].rss_bytes, n))
        chosen = by_cpu[: (self.size + 1) // 2]
        return chosen + [n for n in by_memory if n not in chosen][: self.size - len(chosen)]
