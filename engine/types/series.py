"""Series, their samples and scores, and the state of their sources."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def iso(time_ns: int) -> str:
    """Return `time_ns` (int64 ns UTC) as ISO 8601 UTC with milliseconds.

    >>> iso(1_500_000_000)
    '1970-01-01T00:00:01.500Z'
    """
    seconds, rest = divmod(time_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest // 1_000_000:03d}Z"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class SeriesKey:
    """The identity of a series: source, metric name, sorted labels.

    >>> str(SeriesKey.of("host", "cpu_busy_ratio", {"core": "1"}))
    'cpu_busy_ratio{core="1"}'
    """

    source: str
    metric: str
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, source: str, metric: str, labels: dict[str, str] | None = None) -> "SeriesKey":
        """Create a key from a mapping of labels in any order."""
        return cls(source, metric, tuple(sorted((labels or {}).items())))

    @cached_property
    def id(self) -> str:
        """blake2b-128 of source and Prometheus form, 32 hex digits."""
        return hashlib.blake2b(f"{self.source}\0{self}".encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        if not self.labels:
            return self.metric
        inside = ",".join(f'{k}="{_escape(v)}"' for k, v in self.labels)
        return f"{self.metric}{{{inside}}}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest sample of each series of a source at one moment.

    time   : int64 ns UTC of the read
    keys   : (n,) series; the same tuple object while the set of series does not change
    times  : (n,) int64 ns UTC of each sample
    values : (n,) float64; NaN = unknown
    complete : whether the source answered completely, so that a missing series is really gone
    """

    time: int
    keys: tuple[SeriesKey, ...]
    times: Ints
    values: Floats
    complete: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """Recorded values of a source's series, for warm-up and training.

    times  : (n_ticks,) int64 ns UTC, spaced by step_s seconds
    values : (n_ticks, n_keys) float64, NaN = no sample
    coarse : whether the resolution suffices for seasons only, not for noise
    """

    step_s: float
    keys: tuple[SeriesKey, ...]
    times: Ints
    values: Floats
    coarse: bool = False


_NON_NEGATIVE_UNITS = frozenset(
    {"B", "kB", "MB", "bit", "B/s", "bit/s", "s", "ms", "us", "ns", "min", "h", "d", "1/s", "1/min", "Hz"}
)
_SIGNED_WORDS = frozenset(
    {"offset", "skew", "drift", "delta", "diff", "difference", "change", "adjustment", "balance"}
)
"""Words in metric names whose values can be negative, whatever their unit."""


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """Metadata of a series."""

    key: SeriesKey
    unit: str = ""
    kind: str = "gauge"
    """"gauge", or "rate" where a counter was turned into a rate."""
    help: str = ""
    direction: Literal["both", "above_expected", "below_expected"] = "both"
    """Side of the expected band on which a value can be anomalous."""
    min_deviation: float = 0.0
    """Smallest deviation from the expected value that can be anomalous, in the series' unit."""
    is_transient: bool = False
    """Whether it may disappear at any time, such as a top process; its absence is no anomaly."""

    @property
    def is_non_negative(self) -> bool:
        """Whether its unit excludes negative values; False if the unit is unknown.

        >>> key = SeriesKey.of("host", "swap_bytes")
        >>> SeriesInfo(key, "B").is_non_negative, SeriesInfo(key, "").is_non_negative
        (True, False)
        >>> SeriesInfo(SeriesKey.of("node", "timex_offset_seconds"), "s").is_non_negative
        False
        """
        signed = not _SIGNED_WORDS.isdisjoint(self.key.metric.split("_"))
        return self.kind == "rate" or (self.unit in _NON_NEGATIVE_UNITS and not signed)


@dataclass(frozen=True, slots=True)
class Tick:
    """One closed tick of one source.

    time   : int64 ns UTC, a multiple of the scrape interval
    values : (n_series,) float64 by slot, NaN = no sample
    index_version : version of the slot table
    """

    time: int
    values: Floats
    index_version: int


class SourceState(StrEnum):
    """State of a source."""

    STARTING = "starting"
    UP = "up"
    UNKNOWN = "unknown"
    """The source did not answer, or only in part; its series are not judged."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Status of a source; `since` is int64 ns UTC, 0 = unknown."""

    name: str
    state: SourceState
    interval_s: float
    series: int = 0
    since: int = 0
    detail: str = ""
    left_out: int = 0
    """Number of series over the limit; `trimtab doctor` lists them."""
    warm_progress: float | None = None
    """Progress 0..1 while history is read, otherwise None."""


@dataclass(frozen=True, slots=True)
class ScoreRows:
    """Stored scores of one series, oldest first; each (n,); times int64 ns UTC, the rest float64."""

    times: Ints
    value: Floats
    anomaly_score: Floats
    yhat: Floats
    yhat_lower: Floats
    yhat_upper: Floats


@dataclass(frozen=True, slots=True)
class TickScores:
    """One scored tick of one source; each array (n_series,) float64 by slot, NaN = unknown.

    time     : int64 ns UTC
    detector : (n_series,) int64, index of the strongest detector; -1 = none
    """

    source: str
    time: int
    values: Floats
    anomaly_score: Floats
    yhat: Floats
    yhat_lower: Floats
    yhat_upper: Floats
    detector: Ints


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A series with its newest tick, as the API returns it. None = unknown.

    learning_s : approximate seconds until it is scored; 0 = scored
    """

    id: str
    series: str
    source: str
    metric: str
    labels: dict[str, str]
    unit: str
    kind: str
    time: int | None
    value: float | None
    anomaly_score: float | None
    yhat: float | None
    yhat_lower: float | None
    yhat_upper: float | None
    learning_s: float
    anomaly_id: str | None
    detector: str | None = None
