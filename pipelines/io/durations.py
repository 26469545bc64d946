"""Durations as people write them."""

from trimtab.pipelines.errors import InputError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def duration_s(value: str | float, name: str) -> float:
    """Seconds of a duration such as 15s, 5m or 14d; a number is seconds already.

    name : of the option, for the message. Raises InputError when it is no duration above 0.

    >>> duration_s("14d", "since")
    1209600.0
    """
    try:
        seconds = _parsed(value)
    except (KeyError, ValueError):
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise InputError(f"{name}: {value!r} is no duration above 0; write 500ms, 15s, 1m, 6h, 14d or 2w")
    return seconds


def _parsed(value: str | float) -> float:
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(digits) * _UNITS[text[len(digits) :] or "s"]
