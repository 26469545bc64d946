"""What training leaves out of a history: what incidents did to some series, and what followed own actions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trimtab.models.contracts import Bools, Ints
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.io.panel import times_to_ns

MAX_OPEN_SHARE, MIN_KEPT_SHARE = 0.25, 0.5
"""Share of the window after which what is still going on is how the series is now; share of the samples that
must be left."""


@dataclass(frozen=True, slots=True)
class ExcludedWindow:
    """A stretch of time from which some series are not learnt; int64 ns UTC, both ends included.

    why    : of what it is one, as "incident" or "own action"
    end    : None = it goes on
    series : names of those that it concerns; None = all
    """

    reason: str
    start: int
    end: int | None
    series: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class FilteredHistory:
    """A history without what must not be learnt. said : what is missing, in words; "" = nothing."""

    frame: pd.DataFrame
    summary: str = ""


def exclude_windows(
    frame: pd.DataFrame, windows: Sequence[ExcludedWindow], window_s: float
) -> FilteredHistory:
    """The history with no sample (NaN) of the windows' series inside the windows.

    frame    : unique_id, ds (UTC), y
    window_s : of the history; what goes on for longer than a quarter of it is learnt after that: so long a
               trouble is how the series is now, and a model that never sees it would never forecast it

    Raises HistoryError where less than half of the samples would be left.

    >>> frame = pd.DataFrame({"unique_id": ["a", "a", "b"], "ds": pd.to_datetime([0, 5, 5], utc=True)})
    >>> left = exclude_windows(frame.assign(y=1.0), [ExcludedWindow("incident", 0, 1, frozenset("ab"))], 60.0)
    >>> left.frame["y"].tolist(), left.summary
    ([nan, 1.0, 1.0], '33.3 % of the samples are left out, for 1 incident')
    """
    known = frame["y"].notna().to_numpy()
    if not windows or not known.any():
        return FilteredHistory(frame)
    times = times_to_ns(frame["ds"])
    codes, names = pd.factorize(frame["unique_id"])
    newest = int(times.max())
    out = np.zeros(len(times), np.bool_)
    counted: dict[str, int] = {}
    cut = 0
    for window in windows:
        end, was_cut = _end(window, newest, window_s)
        inside = _inside(window, end, times, codes, names)
        if (inside & known).any():
            counted[window.reason] = counted.get(window.reason, 0) + 1
            cut += was_cut
            out |= inside
    share = float((out & known).sum() / known.sum())
    said = _said(share, counted, cut, window_s)
    if 1.0 - share < MIN_KEPT_SHARE:
        raise HistoryError(f"too little is left to learn from: {said}; wait until they lie further back")
    return FilteredHistory(frame.assign(y=frame["y"].mask(out)) if share else frame, said)


def _end(window: ExcludedWindow, newest: int, window_s: float) -> tuple[int, bool]:
    """Until when it counts, and whether that is shorter than it goes on."""
    if window.end is not None:
        return window.end, False
    longest = window.start + int(MAX_OPEN_SHARE * window_s * 1e9)
    return min(newest, longest), longest < newest


def _inside(window: ExcludedWindow, end: int, times: Ints, codes: Ints, names: "pd.Index[str]") -> Bools:
    inside = (times >= window.start) & (times <= end)
    if window.series is not None:
        inside &= np.asarray(names.isin(window.series), np.bool_)[codes]
    return np.asarray(inside, np.bool_)


def _said(share: float, counted: dict[str, int], cut: int, window_s: float) -> str:
    if not counted:
        return ""
    why = " and ".join(f"{many} {name}{'s' if many > 1 else ''}" for name, many in counted.items())
    said = f"{share:.1%}".replace("%", " %") + f" of the samples are left out, for {why}"
    if cut:
        hours = MAX_OPEN_SHARE * window_s / 3600
        said += f"; {cut} of them, still open, for the first {hours:g} h only: that is how it is now"
    return said
