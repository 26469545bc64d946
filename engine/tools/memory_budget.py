"""How much memory a machine has for what a change would make of it, and the sum in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trimtab.engine.types import MemoryOutlook

MAX_FILL_RATIO = 0.85
"""Of the limit, that may be filled."""
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_START_TOLERANCE_S = 3.0
_UNLIMITED = 2**60
"""What version 1 of control groups writes where there is no limit is above it."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory that a server shares with others.

    limit  : bytes; None = unknown
    others : bytes that others use of it
    of     : in words, as "this host"
    """

    limit_bytes: int | None
    others_bytes: int = 0
    scope: str = ""

    @property
    def free_bytes(self) -> float:
        """Bytes that the server may fill."""
        return -1.0 if self.limit_bytes is None else MAX_FILL_RATIO * self.limit_bytes - self.others_bytes


@dataclass(frozen=True, slots=True)
class MemoryProjection:
    """What the memory of a machine would come to.

    parts : in words and bytes; they add up to `projected`

    >>> print(MemoryProjection((("maxmemory", 3 * 2**30), ("others", 2**30)), MemoryBudget(4 * 2**30, scope="this host")))
    maxmemory 3.0 GiB + others 1.0 GiB = 4.0 GiB, over 85% of the 4.0 GiB of this host (3.4 GiB)
    """

    parts: tuple[tuple[str, float], ...]
    budget: MemoryBudget

    @property
    def projected_bytes(self) -> float:
        """Bytes."""
        return sum(size for _, size in self.parts)

    @property
    def as_outlook(self) -> MemoryOutlook:
        """As everybody knows it."""
        return MemoryOutlook(self.budget.limit_bytes, self.parts)

    @property
    def fits(self) -> bool:
        """Whether it surely does; an unknown limit does not."""
        return (
            self.budget.limit_bytes is not None
            and self.projected_bytes <= MAX_FILL_RATIO * self.budget.limit_bytes
        )

    def __str__(self) -> str:
        parts = " + ".join(f"{words} {format_bytes(size)}" for words, size in self.parts)
        total = f"{parts} = {format_bytes(self.projected_bytes)}"
        if self.budget.limit_bytes is None:
            return f"{total}; how much its machine has is unknown"
        word, allowed = (
            "within" if self.fits else "over",
            format_bytes(MAX_FILL_RATIO * self.budget.limit_bytes),
        )
        return f"{total}, {word} {MAX_FILL_RATIO:.0%} of the {format_bytes(self.budget.limit_bytes)} of {self.budget.scope} ({allowed})"


def format_bytes(size: float) -> str:
    """Bytes for people.

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
    """The tightest limit over a server's process.

    pid          : that the server says it has; None = it is on another machine, or does not say
    started      : when it says that it started, s since 1970; else the process is another of the same number
    used         : bytes that the server itself uses now
    memory_limit : that the settings give; all of it is the server's
    """
    rooms = [] if memory_limit is None else [MemoryBudget(memory_limit, 0, "its memory_limit")]
    if pid is not None and _is_local_process(pid, start_time_s):
        memory = psutil.virtual_memory()
        rooms.append(
            MemoryBudget(memory.total, max(0, memory.total - memory.available - used_bytes), "this host")
        )
        rooms += cgroup_budgets(_read_text(Path(f"/proc/{pid}/cgroup")), used_bytes)
    return min(rooms, key=lambda room: room.free_bytes, default=MemoryBudget(None))


def _is_local_process(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) <= _START_TOLERANCE_S
    except psutil.Error:
        return False


def cgroup_budgets(groups: str, used: int, root: Path = _CGROUP_ROOT) -> Sequence[MemoryBudget]:
    """Limits of the control groups around a process, innermost first.

    groups : what /proc/PID/cgroup says, of version 2 or 1
    used   : bytes that the server itself uses now
    root   : where the groups are mounted
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            return _budgets_in(root, path, used, "memory.max", ("anon", "shmem"))
        if "memory" in controllers.split(","):
            return _budgets_in(
                root / "memory", path, used, "memory.limit_in_bytes", ("total_rss", "total_shmem")
            )
    return []


def _budgets_in(
    root: Path, path: str, used: int, limit_file: str, counted: Sequence[str]
) -> Sequence[MemoryBudget]:
    inside, rooms = root / path.strip().lstrip("/"), []
    for folder in (inside, *inside.parents):
        if not folder.is_relative_to(root):
            break
        limit = _read_text(folder / limit_file).strip()
        if limit.isdigit() and int(limit) < _UNLIMITED:
            taken = dict(line.split() for line in _read_text(folder / "memory.stat").splitlines())
            others = sum(int(taken.get(name, 0)) for name in counted) - used
            rooms.append(MemoryBudget(int(limit), max(0, others), "its control group"))
    return rooms


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def process_family_bytes(pid: int) -> int:
    """Bytes that a process, its siblings and their parent use; what they share counts once."""
    try:
        parent = psutil.Process(pid).parent()
        family = [] if parent is None else [parent, *parent.children()]
        memories = [each.memory_info() for each in family]
    except psutil.Error:
        return 0
    shared = max((memory.shared for memory in memories), default=0)
    return int(shared + sum(max(0, memory.rss - memory.shared) for memory in memories))
