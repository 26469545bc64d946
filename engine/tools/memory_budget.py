"""Memory budget of a managed server: the limit that applies to it, and the projected use of a change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trimtab.engine.types import MemoryOutlook

MAX_FILL_RATIO = 0.85
"""Largest share of a memory limit that a change may fill, 0..1."""
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_START_TOLERANCE_S = 3.0
_UNLIMITED = 2**60
"""Version 1 of cgroups reports a value above this when there is no limit."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory limit that applies to a server.

    limit_bytes  : None = unknown
    others_bytes : bytes of the limit that other processes use
    scope        : what the limit applies to, such as "this host"
    """

    limit_bytes: int | None
    others_bytes: int = 0
    scope: str = ""

    @property
    def free_bytes(self) -> float:
        """Bytes that the server may fill; -1 when the limit is unknown."""
        return -1.0 if self.limit_bytes is None else MAX_FILL_RATIO * self.limit_bytes - self.others_bytes


@dataclass(frozen=True, slots=True)
class MemoryProjection:
    """Projected memory use of a change against the budget.

    parts  : (description, bytes); the parts add up to `projected_bytes`
    budget : the limit that applies

    >>> budget = MemoryBudget(4 * 2**30, scope="this host")
    >>> print(MemoryProjection((("maxmemory", 3 * 2**30), ("others", 2**30)), budget))
    maxmemory 3.0 GiB + others 1.0 GiB = 4.0 GiB, over 85% of the 4.0 GiB of this host (3.4 GiB)
    """

    parts: tuple[tuple[str, float], ...]
    budget: MemoryBudget

    @property
    def projected_bytes(self) -> float:
        """Sum of the parts, bytes."""
        return sum(size for _, size in self.parts)

    @property
    def as_outlook(self) -> MemoryOutlook:
        """The same projection as a MemoryOutlook of the tool port."""
        return MemoryOutlook(self.budget.limit_bytes, self.parts)

    @property
    def fits(self) -> bool:
        """Whether the projection is within 85 % of the limit; False when the limit is unknown."""
        return (
            self.budget.limit_bytes is not None
            and self.projected_bytes <= MAX_FILL_RATIO * self.budget.limit_bytes
        )

    def __str__(self) -> str:
        parts = " + ".join(f"{words} {format_bytes(size)}" for words, size in self.parts)
        total = f"{parts} = {format_bytes(self.projected_bytes)}"
        if self.budget.limit_bytes is None:
            return f"{total}; the memory limit of its machine is unknown"
        limit = self.budget.limit_bytes
        relation, allowed = "within" if self.fits else "over", format_bytes(MAX_FILL_RATIO * limit)
        of_limit = f"{MAX_FILL_RATIO:.0%} of the {format_bytes(limit)} of {self.budget.scope}"
        return f"{total}, {relation} {of_limit} ({allowed})"


def format_bytes(size: float) -> str:
    """Format a size in bytes with a binary unit.

    >>> format_bytes(67108864), format_bytes(1000), format_bytes(3.5 * 2**40)
    ('64.0 MiB', '1000 B', '3.5 TiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def find_memory_budget(
    pid: int | None, start_time_s: float, used_bytes: int, memory_limit: int | None
) -> MemoryBudget:
    """Return the tightest memory limit of a server's process.

    pid          : process id that the server reports; None = on another machine, or not reported
    start_time_s : start time that the server reports, seconds since 1970; a local process with another
                   start time is not the server
    used_bytes   : bytes that the server uses now
    memory_limit : limit from the settings, bytes, all of it for the server; None = not configured
    """
    budgets = [] if memory_limit is None else [MemoryBudget(memory_limit, 0, "its memory_limit")]
    if pid is not None and _is_local_process(pid, start_time_s):
        memory = psutil.virtual_memory()
        budgets.append(
            MemoryBudget(memory.total, max(0, memory.total - memory.available - used_bytes), "this host")
        )
        budgets += cgroup_budgets(_read_text(Path(f"/proc/{pid}/cgroup")), used_bytes)
    return min(budgets, key=lambda budget: budget.free_bytes, default=MemoryBudget(None))


def _is_local_process(pid: int, start_time_s: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - start_time_s) <= _START_TOLERANCE_S
    except psutil.Error:
        return False


def cgroup_budgets(groups: str, used_bytes: int, root: Path = _CGROUP_ROOT) -> Sequence[MemoryBudget]:
    """Return the limits of the cgroups that contain a process, innermost first.

    groups     : content of /proc/PID/cgroup, version 2 or 1
    used_bytes : bytes that the server itself uses now
    root       : mount point of the cgroup file system
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            return _budgets_in(root, path, used_bytes, "memory.max", ("anon", "shmem"))
        if "memory" in controllers.split(","):
            return _budgets_in(
                root / "memory", path, used_bytes, "memory.limit_in_bytes", ("total_rss", "total_shmem")
            )
    return []


def _budgets_in(
    root: Path, path: str, used_bytes: int, limit_file: str, counted: Sequence[str]
) -> Sequence[MemoryBudget]:
    innermost, budgets = root / path.strip().lstrip("/"), []
    for folder in (innermost, *innermost.parents):
        if not folder.is_relative_to(root):
            break
        limit = _read_text(folder / limit_file).strip()
        if limit.isdigit() and int(limit) < _UNLIMITED:
            usage = dict(line.split() for line in _read_text(folder / "memory.stat").splitlines())
            others_bytes = sum(int(usage.get(name, 0)) for name in counted) - used_bytes
            budgets.append(MemoryBudget(int(limit), max(0, others_bytes), "its control group"))
    return budgets


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def process_family_bytes(pid: int) -> int:
    """Return the bytes used by a process, its siblings and their parent; shared memory counts once."""
    try:
        parent = psutil.Process(pid).parent()
        family = [] if parent is None else [parent, *parent.children()]
        memories = [process.memory_info() for process in family]
    except psutil.Error:
        return 0
    shared = max((memory.shared for memory in memories), default=0)
    return int(shared + sum(max(0, memory.rss - memory.shared) for memory in memories))
