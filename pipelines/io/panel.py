"""Convert a history into a panel: many series resampled to one step."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trimtab.models.contracts import Floats, Ints, Panel
from trimtab.pipelines.errors import HistoryError

NS = 1_000_000_000
_BATCH_SAMPLES = 1_000_000
"""Samples resampled at a time; bounds memory."""
NO_SAMPLES_MESSAGE = "the history has no samples of a load; set schedulers.load.series, or wait"


@dataclass(frozen=True, slots=True)
class NamedPanel:
    """A panel with the names of its series, in column order."""

    names: tuple[str, ...]
    panel: Panel

    def first_rows(self, until: int) -> "NamedPanel":
        """Return the first `until` rows: the history known at that time."""
        panel = self.panel
        back = (panel.y.shape[0] - until) * round(panel.step_s * NS)
        return NamedPanel(self.names, replace(panel, y=panel.y[:until], end=panel.end - back))

    def pick(self, columns: Ints) -> "NamedPanel":
        """Return the series in these columns."""
        return NamedPanel(tuple(self.names[k] for k in columns.tolist()), self.panel.select(columns))

    def fingerprint(self) -> str:
        """Return blake2b-128 over names, times and values as 32 hex digits."""
        digest = hashlib.blake2b(digest_size=16)
        for part in ("\0".join(self.names).encode(), str(self.panel.step_s).encode()):
            digest.update(part + b"\0\0")
        for array in (self.panel.y, self.panel.end):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def panel_from_history(
    frame: pd.DataFrame, step_s: float, *, window_s: float, stale_s: float = 3600.0, max_series: int = 1000
) -> NamedPanel:
    """Resample the last window_s seconds of a history to a panel.

    frame      : unique_id, ds (UTC if it has no time zone), y
    step_s     : seconds per row; samples within a step are averaged and stamped with the end of the step
    window_s   : seconds of history
    stale_s    : drop a series whose newest sample is this many seconds older than the newest of all
    max_series : keep at most this many series, those with the most samples

    Raises HistoryError if no series has a sample.

    >>> times = pd.date_range("2026-01-01", periods=4, freq="5min", tz="UTC")
    >>> frame = pd.DataFrame({"unique_id": "cpu", "ds": times, "y": [1.0, 2.0, None, 4.0]})
    >>> panel_from_history(frame, 300, window_s=900).panel.y[:, 0].tolist()
    [2.0, nan, 4.0]
    """
    samples = frame[frame["y"].notna()]
    if samples.empty:
        raise HistoryError(NO_SAMPLES_MESSAGE)
    step = round(step_s * NS)
    steps = -(-times_to_ns(samples["ds"]) // step)
    codes, found = pd.factorize(samples["unique_id"], sort=True)
    last = np.full(len(found), np.iinfo(np.int64).min)
    np.maximum.at(last, codes, steps)
    counts = np.bincount(codes, minlength=len(found))
    fresh = np.flatnonzero(last >= last.max() - int(stale_s / step_s))
    chosen = np.sort(fresh[np.argsort(-counts[fresh], kind="stable")][:max_series])
    y = _grid(codes, steps, samples["y"].to_numpy(np.float64), last, chosen, max(int(window_s / step_s), 1))
    rows_with_samples = np.flatnonzero(np.isfinite(y).any(axis=1))
    y = y[rows_with_samples[0] :]
    panel = Panel(y, last[chosen] * step, float(step_s), np.nanmin(y, axis=0) >= 0.0)
    return NamedPanel(tuple(str(found[i]) for i in chosen), panel)


def _grid(codes: Ints, steps: Ints, values: Floats, last: Ints, chosen: Ints, n_rows: int) -> Floats:
    """Return (n_rows, n_chosen) means per cell; each series ends in the last row."""
    column = np.full(len(last), -1)
    column[chosen] = np.arange(len(chosen))
    total, count = np.zeros((n_rows, len(chosen))), np.zeros((n_rows, len(chosen)))
    for begin in range(0, len(codes), _BATCH_SAMPLES):
        part = slice(begin, begin + _BATCH_SAMPLES)
        row = n_rows - 1 - (last[codes[part]] - steps[part])
        inside = (row >= 0) & (column[codes[part]] >= 0)
        cell = (row[inside], column[codes[part]][inside])
        np.add.at(total, cell, values[part][inside])
        np.add.at(count, cell, 1.0)
    y: Floats = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
    return y


def merge_histories(frames: Collection[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate histories; a series that is in several is taken from the first."""
    parts: list[pd.DataFrame] = []
    names: set[str] = set()
    for frame in frames:
        parts.append(frame[~frame["unique_id"].isin(names)])
        names |= set(frame["unique_id"].unique())
    return pd.concat(parts, ignore_index=True)


def times_to_ns(times: "pd.Series[pd.Timestamp]") -> Ints:
    """Return (n,) int64 ns UTC of a column of times."""
    naive = times if times.dt.tz is None else times.dt.tz_convert("UTC").dt.tz_localize(None)
    stamps = naive.to_numpy()
    return stamps.astype("datetime64[ns]").astype(np.int64)
