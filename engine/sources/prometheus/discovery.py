"""Discovery: the metrics of a Prometheus with their types, and its targets with their scrape intervals."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog

from trimtab.engine.errors import SourceError
from trimtab.engine.sources.prometheus.query_plan import (
    EXCLUDED_METRICS,
    OWN_SERIES,
    MetricMetadata,
    name_matcher,
    untyped_metrics,
)
from trimtab.engine.sources.rates import NS

T = TypeVar("T")
log = structlog.get_logger(__name__)

UNKNOWN_SCRAPE_S = 60.0
"""Assumed for series of jobs that are not scrape targets, such as recording rules."""
_KEEP_MISSING_S = 3600
_GROWTH_WINDOW_S = 3600
_GROWTH_STEP_S = 30
_SPACING_WINDOW_MS = 600_000
_MAX_GROWTH_SERIES = 3000
_MIN_SAMPLES = 10
_MIN_RISES = 3
_MAX_RESTART_RATIO = 0.1
"""A drop to less than this ratio may be a restart ..."""
_MIN_RISES_PER_RESTART = 20
"""... if it is rare; a metric that often drops is a gauge."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)")
_DURATIONS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


class PrometheusApi(Protocol):
    """API of the server as discovery and history need it; see `api_library.ApiLibrary`."""

    def count_series(self, selection: str) -> list[tuple[str, str, int]]:
        """Return (metric, job, number of series)."""

    def metadata(self) -> dict[str, MetricMetadata]:
        """Return the metadata of metrics and metric families."""

    def targets(self) -> Sequence[Mapping[str, Any]]:
        """Return the active targets."""

    def query_at(self, expr: str, at: int) -> Sequence[Mapping[str, Any]]:
        """Return the rows of an instant query at a time, int64 ns."""

    def query_range(self, expr: str, start: int, end: int, step_s: float) -> Sequence[Mapping[str, Any]]:
        """Return the rows of a range query; times int64 ns."""


def duration_s(text: str) -> float:
    """Return the seconds of a Prometheus duration; 0 when it is invalid.

    >>> duration_s("1m30s"), duration_s("15s"), duration_s("")
    (90.0, 15.0, 0.0)
    """
    return float(sum(float(n) * _DURATIONS_S[unit] for n, unit in _DURATION.findall(text)))


@dataclass(frozen=True, slots=True)
class ScrapeTimings:
    """Scrape intervals and durations of the targets, seconds.

    by_target : (job, instance) -> (interval, last scrape duration)
    by_job    : job -> longest interval of its targets
    """

    by_target: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    by_job: Mapping[str, float] = field(default_factory=dict)
    common_interval_s: float = 0.0
    """Most frequent interval of the targets; 0 = there are no targets."""

    @classmethod
    def from_targets(cls, targets: Iterable[Mapping[str, Any]]) -> "ScrapeTimings":
        """Return the timings of the active targets as Prometheus lists them."""
        of_target: dict[tuple[str, str], tuple[float, float]] = {}
        of_job: dict[str, float] = {}
        for target in targets:
            labels = target.get("labels", {})
            interval_s = duration_s(str(target.get("scrapeInterval", "")))
            if interval_s > 0:
                job = labels.get("job", "")
                last_s = float(target.get("lastScrapeDuration", 0.0))
                of_target[job, labels.get("instance", "")] = (interval_s, last_s)
                of_job[job] = max(of_job.get(job, 0.0), interval_s)
        often = Counter(interval_s for interval_s, _ in of_target.values())
        common_s = min(often, key=lambda s: (-often[s], s)) if often else 0.0
        return cls(of_target, of_job, common_s)


@dataclass(frozen=True, slots=True)
class DiscoveryResult:
    """Result of one discovery.

    series_counts : metric -> number of series
    scrape_s      : metric -> longest scrape interval among its jobs, seconds
    only_grows    : metric without type -> whether its values only increased
    undecided     : metrics for which that is not known yet; they are not watched until it is
    last_seen_ns  : metric -> time of the last discovery that found it, int64 ns
    """

    series_counts: dict[str, int] = field(default_factory=dict)
    scrape_s: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    scrapes: ScrapeTimings = field(default_factory=ScrapeTimings)
    only_grows: dict[str, bool] = field(default_factory=dict)
    undecided: frozenset[str] = frozenset()
    last_seen_ns: dict[str, int] = field(default_factory=dict)


def discover(library: PrometheusApi, selector: str, now: int, before: DiscoveryResult) -> DiscoveryResult:
    """Discover once. Blocks; raises SourceError when the server does not answer.

    library  : API of the server
    selector : matchers, without braces
    now      : int64 ns
    before   : previous result, `DiscoveryResult()` at first; its types and its metrics of the last hour stay

    Metadata and targets are optional, because some compatible servers do not offer them.
    """
    own, never = "|".join(OWN_SERIES), f"{EXCLUDED_METRICS}|{'|'.join(OWN_SERIES)}"
    selected = f'{{{selector},__name__!~"{never}"}} or {{{selector},__name__=~"{own}",for=""}}'
    rows = library.count_series(selected)
    nothing: dict[str, MetricMetadata] = {}
    metadata = before.metadata | _call_optional("metadata", library.metadata, nothing)
    counts: dict[str, int] = {}
    for name, _, n in rows:
        counts[name] = counts.get(name, 0) + n
    scrapes = ScrapeTimings.from_targets(_call_optional("targets", library.targets, ()))
    if not scrapes.by_target:
        scrapes = ScrapeTimings(
            common_interval_s=before.scrapes.common_interval_s
            or _sample_spacing_s(library, selector, counts, now)
        )
    other_s = UNKNOWN_SCRAPE_S if scrapes.by_target else scrapes.common_interval_s or UNKNOWN_SCRAPE_S
    scrape_s: dict[str, float] = {}
    for name, job, _ in rows:
        scrape_s[name] = max(scrape_s.get(name, 0.0), scrapes.by_job.get(job, other_s))
    seen_at = dict.fromkeys(counts, now)
    for name in before.series_counts:
        if name not in counts and now - before.last_seen_ns[name] < _KEEP_MISSING_S * NS:
            counts[name], scrape_s[name] = before.series_counts[name], before.scrape_s[name]
            seen_at[name] = before.last_seen_ns[name]
    silent = untyped_metrics(counts, metadata)
    grows = dict(before.only_grows)
    for names in _group_by_size([n for n in silent if n not in grows], counts):
        grows |= _detect_growth(library, selector, names, now)
    for name in grows.keys() & silent:
        meta = metadata.get(name, MetricMetadata())
        metadata[name] = replace(meta, type="counter" if grows[name] else "gauge")
    small = {n for n in silent if counts[n] <= _MAX_GROWTH_SERIES}
    return DiscoveryResult(
        counts, scrape_s, metadata, scrapes, grows, frozenset(small - grows.keys()), seen_at
    )


def _call_optional(what: str, ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except SourceError as error:
        log.info("api_not_available", what=what, error=str(error))
        return otherwise


def _sample_spacing_s(library: PrometheusApi, selector: str, counts: Mapping[str, int], now: int) -> float:
    """Return the seconds between samples of the smallest metric, 0 = unknown; for servers without targets."""
    if not counts:
        return 0.0
    name = min(counts, key=lambda n: (counts[n], n))
    rows = library.query_at(f"{{{selector},{name_matcher([name])}}}[{_SPACING_WINDOW_MS}ms]", now)
    gaps_s = [b[0] - a[0] for row in rows for a, b in pairwise(row.get("values", ()))]
    return round(float(np.median(gaps_s)), 3) if gaps_s else 0.0


def _group_by_size(names: Sequence[str], counts: Mapping[str, int]) -> Iterable[list[str]]:
    """Yield groups of metrics with a bounded number of series; larger metrics are left out."""
    group: list[str] = []
    total = 0
    for name in sorted(n for n in names if counts[n] <= _MAX_GROWTH_SERIES):
        if group and total + counts[name] > _MAX_GROWTH_SERIES:
            yield group
            group, total = [], 0
        group.append(name)
        total += counts[name]
    if group:
        yield group


def _detect_growth(library: PrometheusApi, selector: str, names: Sequence[str], now: int) -> dict[str, bool]:
    """Return metric -> whether it only increased in the last hour; new and constant metrics are left out."""
    end = now // NS * NS
    rows = library.query_range(
        f"{{{selector},{name_matcher(names)}}}", end - _GROWTH_WINDOW_S * NS, end, _GROWTH_STEP_S
    )
    longest: dict[str, int] = {}
    rises: dict[str, int] = {}
    never: set[str] = set()
    for row in rows:
        name = row["metric"]["__name__"]
        values = [float(v) for _, v in row.get("values", ())]
        rose = sum(b > a for a, b in pairwise(values))
        longest[name] = max(longest.get(name, 0), len(values))
        rises[name] = max(rises.get(name, 0), rose)
        falls = [(a, b) for a, b in pairwise(values) if b < a]
        restarted = len(falls) * _MIN_RISES_PER_RESTART <= rose and all(
            b <= _MAX_RESTART_RATIO * a for a, b in falls
        )
        if not restarted or not all(value.is_integer() for value in values):
            never.add(name)
    return {n: n not in never and rises[n] >= _MIN_RISES for n in rises if longest[n] >= _MIN_SAMPLES}
