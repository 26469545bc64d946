"""What memory will be in use after a change: the sum, part by part."""

from dataclasses import dataclass


def format_bytes(size_bytes: float) -> str:
    """A size as people write it.

    >>> format_bytes(1_610_612_736), format_bytes(2048), format_bytes(-5 * 2**20)
    ('1.5 GiB', '2.0 KiB', '-5.0 MiB')
    """
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(size_bytes) >= 2**power:
            return f"{size_bytes / 2**power:.1f} {unit}"
    return f"{size_bytes:.0f} bytes"


@dataclass(frozen=True, slots=True)
class MemoryOutlook:
    """Memory of a host or control group after a change.

    limit_bytes : of the smaller of host and control group; None = unknown
    parts       : what will use it, in words, and bytes each (None = unknown)
    """

    limit_bytes: float | None
    parts: tuple[tuple[str, float | None], ...]

    @property
    def projected_bytes(self) -> float | None:
        """The sum; None where a part is unknown."""
        known = [size for _, size in self.parts if size is not None]
        return sum(known) if len(known) == len(self.parts) else None

    @property
    def breakdown(self) -> str:
        """The sum in words.

        >>> MemoryOutlook(None, (("data", 2**30), ("copies", 2**29), ("others", None))).breakdown
        '1.0 GiB data + 512.0 MiB copies + unknown others'
        """
        return " + ".join(
            f"{'unknown' if size is None else format_bytes(size)} {name}" for name, size in self.parts
        )
