"""Managed tools: their state, one-off actions, and estimates that guard rules check."""

from dataclasses import dataclass
from enum import StrEnum


class Risk(StrEnum):
    """Worst-case impact of a change."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class ToolAction:
    """A one-off operation of a tool.

    reduces    : whether it reduces capacity (guard rules are stricter for such actions)
    idempotent : whether running it twice has the same effect as running it once
    """

    name: str
    help: str
    risk: Risk
    reduces: bool = False
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class WarmingLoad:
    """Load and error ratio of the service behind a cache, before the cache is warmed; None = unknown.

    asked_per_s  : requests/s that warming would add
    origin_per_s : requests/s that the origin serves without warming
    errors       : ratio 0..1 of the origin's requests that fail
    """

    asked_per_s: float | None
    origin_per_s: float | None
    errors: float | None


class ToolState(StrEnum):
    """State of a tool."""

    UP = "up"
    EXPORT_ONLY = "export only"
    """The tool can be read, but the server forbids changes; operators apply them by hand."""
    DENIED = "denied"
    """The tool answers, but rejects the credentials or their permissions."""
    UNREACHABLE = "unreachable"
    QUARANTINED = "quarantined"
    """The tool raised an unexpected exception; it is not called until an operator enables it again."""
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ToolStatus:
    """State of a tool, with a detail that says what to do if it is not up."""

    state: ToolState
    detail: str = ""
    version: str = ""


class Mode(StrEnum):
    """How far the engine may act by itself on an action type and target."""

    OFF = "off"
    RECOMMEND = "recommend"
    APPROVE = "approve"
    AUTO = "auto"


def format_bytes(size_bytes: float) -> str:
    """Return a size in bytes with a binary prefix.

    >>> format_bytes(1_610_612_736), format_bytes(2048), format_bytes(-5 * 2**20)
    ('1.5 GiB', '2.0 KiB', '-5.0 MiB')
    """
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(size_bytes) >= 2**power:
            return f"{size_bytes / 2**power:.1f} {unit}"
    return f"{size_bytes:.0f} bytes"


@dataclass(frozen=True, slots=True)
class MemoryOutlook:
    """Estimated memory use of a host or control group after a change.

    limit_bytes : the smaller limit of the host and the control group, in bytes; None = unknown
    parts       : (description, bytes) of each consumer; None = unknown size
    """

    limit_bytes: float | None
    parts: tuple[tuple[str, float | None], ...]

    @property
    def projected_bytes(self) -> float | None:
        """Sum of all parts in bytes; None if any part is unknown."""
        known = [size for _, size in self.parts if size is not None]
        return sum(known) if len(known) == len(self.parts) else None

    @property
    def breakdown(self) -> str:
        """The parts as a readable sum.

        >>> MemoryOutlook(None, (("data", 2**30), ("copies", 2**29), ("others", None))).breakdown
        '1.0 GiB data + 512.0 MiB copies + unknown others'
        """
        return " + ".join(
            f"{'unknown' if size is None else format_bytes(size)} {name}" for name, size in self.parts
        )
