"""Formats numbers for people: quantities, ratios, durations."""

import math

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_quantity(value: float, unit: str = "") -> str:
    """Format a number with three digits; bytes get a binary prefix.

    >>> [format_quantity(value) for value in (0.123456, 12345.0, math.nan)], format_quantity(3.2e8, "B")
    (['0.123', '12300', 'unknown'], '305 MiB')
    """
    if not math.isfinite(value):
        return "unknown"
    if unit == "B":
        power = min(int(math.log2(max(abs(value), 1.0)) // 10), len(_BYTES) - 1)
        return f"{_digits(value / 1024**power)} {_BYTES[power]}"
    return f"{_digits(value)} {unit}".rstrip()


def format_ratio(value: float) -> str:
    """Format a ratio 0..1 in percent.

    >>> format_ratio(0.8123), format_ratio(math.nan)
    ('81 %', 'unknown')
    """
    return (
        "unknown"
        if not math.isfinite(value)
        else f"{value * 100:.2g} %"
        if value < 0.1
        else f"{value:.0%}"[:-1] + " %"
    )


def format_duration(seconds: float) -> str:
    """Format a duration in its largest unit.

    >>> format_duration(90), format_duration(5400), format_duration(200000), format_duration(math.nan)
    ('90 s', '90 min', '56 h', 'unknown time')
    """
    if not math.isfinite(seconds):
        return "unknown time"
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size + (size if unit == "d" else 0):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:.0f}" if places <= 0 else f"{rounded:.{places}f}".rstrip("0").rstrip(".")
