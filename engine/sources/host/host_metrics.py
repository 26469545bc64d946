"""Host metrics as samples, read through psutil: levels, counters and shares of CPU time."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from trimtab.engine.types import SeriesKey

Sample = tuple[SeriesKey, float]

_IDLE_MODES = ("idle", "iowait")
_GUEST_MODES = ("guest", "guest_nice")
"""Already counted in user and nice."""
_VIRTUAL_LINKS = ("lo", "veth", "tap", "tun", "dummy", "cni", "cali", "flannel", "ifb")
_VIRTUAL_DISKS = ("loop", "ram", "zram", "sr", "fd")
_PSEUDO_FILE_SYSTEMS = frozenset({"squashfs", "iso9660", "overlay", "tmpfs", "devtmpfs", "ramfs", "nsfs"})
_LINK_COUNTERS = {
    "bytes_recv": "host_network_received_bytes_per_second",
    "bytes_sent": "host_network_sent_bytes_per_second",
    "packets_recv": "host_network_received_packets_per_second",
    "packets_sent": "host_network_sent_packets_per_second",
}
_DISK_COUNTERS = {
    "read_bytes": "host_disk_read_bytes_per_second",
    "write_bytes": "host_disk_written_bytes_per_second",
    "read_count": "host_disk_reads_per_second",
    "write_count": "host_disk_writes_per_second",
}

HELP = {
    "host_cpu_busy_ratio": "Share of time in which a core did not idle.",
    "host_cpu_mode_ratio": "Share of time that all cores together spent in a mode.",
    "host_load1": "Runnable and waiting tasks, mean of a minute.",
    "host_load5": "Runnable and waiting tasks, mean of five minutes.",
    "host_load15": "Runnable and waiting tasks, mean of fifteen minutes.",
    "host_memory_available_bytes": "Memory that programs can still get without swapping.",
    "host_memory_used_ratio": "Share of memory that programs cannot get any more.",
    "host_swap_used_bytes": "Swap in use.",
    "host_swap_in_bytes_per_second": "Read back from swap.",
    "host_swap_out_bytes_per_second": "Written to swap.",
    "host_context_switches_per_second": "Switches between tasks.",
    "host_interrupts_per_second": "Hardware interrupts.",
    "host_disk_read_bytes_per_second": "Read from a disk.",
    "host_disk_written_bytes_per_second": "Written to a disk.",
    "host_disk_reads_per_second": "Read requests that a disk finished.",
    "host_disk_writes_per_second": "Write requests that a disk finished.",
    "host_disk_busy_ratio": "Share of time in which a disk had work.",
    "host_filesystem_used_ratio": "Share of a file system that is full.",
    "host_network_received_bytes_per_second": "Received by an interface.",
    "host_network_sent_bytes_per_second": "Sent by an interface.",
    "host_network_received_packets_per_second": "Packets that an interface received.",
    "host_network_sent_packets_per_second": "Packets that an interface sent.",
    "host_network_faults_per_second": "Packets that an interface dropped or found faulty, both ways.",
    "host_file_handles_open": "Open file handles of the whole system.",
    "host_processes": "Processes that exist.",
    "host_process_cpu_ratio": "CPU of all processes of one name; 1 = one core.",
    "host_process_resident_memory_bytes": "Resident memory of all processes of one name.",
}
_UNITS = {"_bytes_per_second": "B/s", "_per_second": "1/s", "_ratio": "ratio", "_bytes": "B"}


def unit_of(metric: str) -> str:
    """Return the unit of a host metric.

    >>> unit_of("host_disk_read_bytes_per_second"), unit_of("host_load1")
    ('B/s', '')
    """
    return next((unit for ending, unit in _UNITS.items() if metric.endswith(ending)), "")


def host_series(metric: str, **labels: str) -> SeriesKey:
    """Return the key of a host series."""
    return SeriesKey.of("host", metric, labels)


def load_averages() -> Iterator[Sample]:
    """Yield the load averages of 1, 5 and 15 minutes."""
    for minutes, value in zip((1, 5, 15), os.getloadavg(), strict=True):
        yield host_series(f"host_load{minutes}"), value


def memory_levels() -> Iterator[Sample]:
    """Yield memory use, and swap use when there is swap."""
    memory = psutil.virtual_memory()
    yield host_series("host_memory_available_bytes"), float(memory.available)
    yield host_series("host_memory_used_ratio"), 1.0 - memory.available / memory.total
    swap = psutil.swap_memory()
    if swap.total:
        yield host_series("host_swap_used_bytes"), float(swap.used)


def open_file_handles(path: Path = Path("/proc/sys/fs/file-nr")) -> Iterator[Sample]:
    """Yield the number of open file handles, on Linux."""
    if path.exists():
        yield host_series("host_file_handles_open"), float(path.read_text().split()[0])


def process_count() -> Iterator[Sample]:
    """Yield the number of processes."""
    yield host_series("host_processes"), float(len(psutil.pids()))


def mount_points() -> list[str]:
    """Return mount points of real, writable, local file systems; the shortest one of each device."""
    chosen: dict[str, str] = {}
    for part in psutil.disk_partitions(all=False):
        pseudo = part.fstype in _PSEUDO_FILE_SYSTEMS or "ro" in part.opts.split(",")
        if pseudo or Path(part.mountpoint).is_file():
            continue
        before = chosen.get(part.device, part.mountpoint)
        chosen[part.device] = min(before, part.mountpoint, key=lambda m: (len(m), m))
    return sorted(chosen.values())


def filesystem_usage(points: list[str]) -> Iterator[Sample]:
    """Yield the used ratio (0..1) of each file system; NaN when it cannot be read."""
    for point in points:
        try:
            used = psutil.disk_usage(point).percent / 100
        except OSError:
            used = float("nan")
        yield host_series("host_filesystem_used_ratio", mountpoint=point), used


def swap_counters() -> Iterator[Sample]:
    """Yield bytes swapped in and out since boot, when there is swap."""
    swap = psutil.swap_memory()
    if swap.total:
        yield host_series("host_swap_in_bytes_per_second"), float(swap.sin)
        yield host_series("host_swap_out_bytes_per_second"), float(swap.sout)


def kernel_counters() -> Iterator[Sample]:
    """Yield context switches and interrupts since boot."""
    stats = psutil.cpu_stats()
    yield host_series("host_context_switches_per_second"), float(stats.ctx_switches)
    yield host_series("host_interrupts_per_second"), float(stats.interrupts)


def disk_counters(blocks: Path = Path("/sys/block")) -> Iterator[Sample]:
    """Yield I/O counters of whole disks since boot, without partitions and virtual devices."""
    whole = {entry.name for entry in blocks.iterdir()} if blocks.is_dir() else None
    for device, counters in sorted((psutil.disk_io_counters(perdisk=True) or {}).items()):
        if device.startswith(_VIRTUAL_DISKS) or (whole is not None and device not in whole):
            continue
        for name, metric in _DISK_COUNTERS.items():
            yield host_series(metric, device=device), float(getattr(counters, name))
        if hasattr(counters, "busy_time"):
            yield host_series("host_disk_busy_ratio", device=device), counters.busy_time / 1000


def network_counters() -> Iterator[Sample]:
    """Yield traffic counters of interfaces since boot, without loopback and virtual interfaces."""
    for device, counters in sorted(psutil.net_io_counters(pernic=True).items()):
        if device.startswith(_VIRTUAL_LINKS):
            continue
        for name, metric in _LINK_COUNTERS.items():
            yield host_series(metric, interface=device), float(getattr(counters, name))
        faults = counters.errin + counters.errout + counters.dropin + counters.dropout
        yield host_series("host_network_faults_per_second", interface=device), float(faults)


CpuTimes = dict[str, dict[str, float]]
"""Core -> mode -> seconds since boot."""


def cpu_times() -> CpuTimes:
    """Return the seconds that each core spent in each mode."""
    return {
        str(core): {m: v for m, v in times._asdict().items() if m not in _GUEST_MODES}
        for core, times in enumerate(psutil.cpu_times(percpu=True))
    }


def cpu_ratios(before: CpuTimes, after: CpuTimes) -> Iterator[Sample]:
    """Yield the busy ratio of each core and the ratio of each mode over all cores, 0..1.

    The ratios refer to the CPU time that passed, not to wall-clock time, so they never exceed 1. NaN
    when no time passed.
    """
    spent: dict[str, float] = {}
    for core, now in after.items():
        elapsed = {m: max(v - before.get(core, {}).get(m, float("nan")), 0.0) for m, v in now.items()}
        total = sum(elapsed.values())
        idle = sum(elapsed.get(m, 0.0) for m in _IDLE_MODES)
        yield (
            host_series("host_cpu_busy_ratio", core=core),
            (total - idle) / total if total > 0 else float("nan"),
        )
        for mode, value in elapsed.items():
            spent[mode] = spent.get(mode, 0.0) + value
    total_spent = sum(spent.values())
    for mode, value in spent.items():
        if mode != "idle":
            yield (
                host_series("host_cpu_mode_ratio", mode=mode),
                value / total_spent if total_spent > 0 else float("nan"),
            )
