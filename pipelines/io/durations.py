"""Durations in the form that Prometheus and Go use."""

import durationpy

from trimtab.pipelines.errors import InputError

EXAMPLES = "500ms, 15s, 1m, 1h30m, 14d or 2w"


def parse_duration_s(text: str) -> float:
    """Return the seconds of a duration; a plain number is seconds. Raises ValueError.

    >>> parse_duration_s("1h30m"), parse_duration_s("15")
    (5400.0, 15.0)
    """
    try:
        return float(text)
    except ValueError:
        pass  # not a plain number
    try:
        return float(durationpy.from_str(text.strip()).total_seconds())
    except (durationpy.DurationError, OverflowError):
        raise ValueError(f"{text!r} is not a duration; write {EXAMPLES}") from None


def positive_duration_s(value: str | float, name: str) -> float:
    """Return the seconds of a duration above 0, given as text or as a number of seconds.

    name : of the option, for the error message. Raises InputError.

    >>> positive_duration_s("14d", "since")
    1209600.0
    """
    try:
        seconds = parse_duration_s(value) if isinstance(value, str) else float(value)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise InputError(f"{name}: {value!r} is not a duration above 0; write {EXAMPLES}")
    return seconds
