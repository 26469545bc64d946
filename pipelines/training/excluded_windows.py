"""Exclude time windows from training: incidents, and the periods after Trimtab's own actions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trimtab.models.contracts import Bools, Ints
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.io.panel import times_to_ns

MAX_OPEN_SHARE = 0.25
"""Share of the history for which an open window is excluded at most."""
MIN_KEPT_SHARE = 0.5
"""Minimum share of samples that must remain."""


@dataclass(frozen=True, slots=True)
class ExcludedWindow:
    """A time window from which some series are not learned; int64 ns UTC, both ends included.

    reason : kind of window, such as "incident" or "own action"
    end    : None = still open
    series : names of the affected series; None = all
    """

    reason: str
    start: int
    end: int | None
    series: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class FilteredHistory:
    """A history without the excluded samples.

    summary : share and reasons of the excluded samples, in words; "" = nothing is excluded
    """

    frame: pd.DataFrame
    summary: str = ""


def exclude_windows(
    frame: pd.DataFrame, windows: Sequence[ExcludedWindow], window_s: float
) -> FilteredHistory:
    """Replace the samples of the windows' series inside the windows by NaN.

    frame    : unique_id, ds (UTC), y
    window_s : seconds of history; an open window is excluded for a quarter of it at most, because a longer
               state is the new normal and a model has to learn it

    Raises HistoryError if less than half of the samples would remain.

    >>> frame = pd.DataFrame({"unique_id": ["a", "a", "b"], "ds": pd.to_datetime([0, 5, 5], utc=True)})
    >>> kept = exclude_windows(frame.assign(y=1.0), [ExcludedWindow("incident", 0, 1, frozenset("ab"))], 60.0)
    >>> kept.frame["y"].tolist(), kept.summary
    ([nan, 1.0, 1.0], '33.3 % of the samples are left out, for 1 incident')
    """
    known = frame["y"].notna().to_numpy()
    if not windows or not known.any():
        return FilteredHistory(frame)
    times = times_to_ns(frame["ds"])
    codes, names = pd.factorize(frame["unique_id"])
    newest = int(times.max())
    excluded = np.zeros(len(times), np.bool_)
    counts: dict[str, int] = {}
    shortened = 0
    for window in windows:
        end, is_shortened = _exclusion_end(window, newest, window_s)
        inside = _samples_inside(window, end, times, codes, names)
        if (inside & known).any():
            counts[window.reason] = counts.get(window.reason, 0) + 1
            shortened += is_shortened
            excluded |= inside
    share = float((excluded & known).sum() / known.sum())
    summary = _summarize(share, counts, shortened, window_s)
    if 1.0 - share < MIN_KEPT_SHARE:
        raise HistoryError(f"too few samples remain: {summary}; wait until they are further in the past")
    return FilteredHistory(frame.assign(y=frame["y"].mask(excluded)) if share else frame, summary)


def _exclusion_end(window: ExcludedWindow, newest: int, window_s: float) -> tuple[int, bool]:
    """Return the end of the exclusion, and whether it is earlier than the end of an open window."""
    if window.end is not None:
        return window.end, False
    longest = window.start + int(MAX_OPEN_SHARE * window_s * 1e9)
    return min(newest, longest), longest < newest


def _samples_inside(
    window: ExcludedWindow, end: int, times: Ints, codes: Ints, names: "pd.Index[str]"
) -> Bools:
    inside = (times >= window.start) & (times <= end)
    if window.series is not None:
        inside &= np.asarray(names.isin(window.series), np.bool_)[codes]
    return np.asarray(inside, np.bool_)


def _summarize(share: float, counts: dict[str, int], shortened: int, window_s: float) -> str:
    if not counts:
        return ""
    reasons = " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())
    summary = f"{share:.1%}".replace("%", " %") + f" of the samples are left out, for {reasons}"
    if shortened:
        hours = MAX_OPEN_SHARE * window_s / 3600
        summary += f"; {shortened} of them, still open, only for their first {hours:g} h"
    return summary
