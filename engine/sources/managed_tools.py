"""Source of the managed tools' own metrics, so that they need no exporter."""

import asyncio
import math
import re
import time
from collections.abc import Mapping, Sequence

import numpy as np
import structlog

from trimtab.engine.errors import EngineError, SourceError, StoreError
from trimtab.engine.ports import Clock, KeyValueStore, Toolbox
from trimtab.engine.sources.no_history import NoHistory
from trimtab.engine.sources.rates import CounterRates, is_counter, unit_of
from trimtab.engine.types import Reading, SeriesInfo, SeriesKey

log = structlog.get_logger(__name__)

HIT_RATIOS = {
    "redis_hit_ratio": ("redis_keyspace_hits_total", "redis_keyspace_misses_total"),
    "pg_cache_hit_ratio": ("pg_stat_database_blks_hit", "pg_stat_database_blks_read"),
}
"""Ratio -> (hits, misses): hits / (hits + misses) over the interval. Operators and verification use it."""
_SUM_SUFFIX, _COUNT_SUFFIX, _MEAN_SUFFIX = "_seconds_sum", "_seconds_count", "_mean_seconds"
"""Suffixes of a histogram or summary: total seconds, observations, and the mean derived from them."""
_COUNTER_METRICS = re.compile(
    r"pg_stat_database_(?!numbackends$).+|pg_stat_user_tables_(seq|idx)_scan|redis_total_error_replies"
)
"""Counters that cannot be recognised by their suffix."""
_GAUGE_METRICS = frozenset({"pg_stat_activity_count"})
_LABELLED = re.compile(r"(?P<metric>[^{]+)\{(?P<labels>.*)\}")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MAX_GAP_INTERVALS = 3.5

Samples = dict[SeriesKey, float]


class ToolsSource(NoHistory):
    """Metrics of every target of every enabled tool; counters become rates, durations become means.

    All known series of a tool are unknown (NaN) while it does not answer or is disabled, also when it was
    disabled before a restart. Labels: tool, target.

    metric_names : stores the metric names of disabled tools over a restart; None = not stored
    """

    name = "tools"

    def __init__(
        self,
        toolbox: Toolbox,
        clock: Clock,
        interval_s: float = 5.0,
        metric_names: KeyValueStore | None = None,
    ) -> None:
        self.interval_s = interval_s
        self._toolbox = toolbox
        self._clock = clock
        self._stored_metric_names = metric_names
        self._disabled_targets: set[tuple[str, str]] = set()
        """(tool, target) pairs of disabled tools, whose series are kept."""
        self._counter_rates = CounterRates(interval_s * _MAX_GAP_INTERVALS)
        self._known_keys: dict[tuple[str, str], tuple[SeriesKey, ...]] = {}
        self._metric_names: dict[tuple[str, str], list[str]] = {}
        self._target_count = 0
        self._keys: tuple[SeriesKey, ...] = ()

    async def open(self) -> None:
        """Connect to nothing; tools connect on first use. Raises SourceError when no tool is configured."""
        if not self._toolbox.names():
            raise SourceError("tools: none is configured; see `tools:` in trimtab.yaml")

    async def read(self) -> Reading:
        """Return the current metrics. Raises SourceError when no tool answers."""
        now = self._clock.now()
        views = await self._toolbox.views()
        targets = [(view.name, target) for view in views if view.enabled for target in view.targets]
        disabled = {(view.name, target) for view in views if not view.enabled for target in view.targets}
        await self._sync_disabled(disabled)
        answers = await asyncio.gather(*(self._fetch_metrics(*target) for target in targets))
        samples: Samples = {}
        for target in self._known_keys.keys() - set(targets):
            samples |= self._samples(target, None)
        for target, metrics in zip(targets, answers, strict=True):
            samples |= self._samples(target, metrics)
        if targets and all(metrics is None for metrics in answers):
            raise SourceError("tools: no tool answers; run `trimtab doctor` to see why")
        self._target_count = len(targets)
        return self._make_reading(now, samples, complete=None not in answers)

    async def _sync_disabled(self, disabled: set[tuple[str, str]]) -> None:
        """Store the metric names of newly disabled targets, or load those stored before a restart."""
        for target in disabled - self._disabled_targets:
            if self._stored_metric_names is not None:
                try:
                    await asyncio.to_thread(self._save_or_load_names, self._stored_metric_names, target)
                except StoreError as error:
                    log.warning("metric_names_not_stored", tool=target[0], error=str(error))
        self._disabled_targets = disabled

    def _save_or_load_names(self, store: KeyValueStore, target: tuple[str, str]) -> None:
        name = f"tools.series.{target[0]}/{target[1]}"
        if target in self._known_keys:
            store.set(name, self._metric_names[target])
            return
        labels = {"tool": target[0], "target": target[1]}
        self._known_keys[target] = tuple(
            metric_series_key(metric, labels) for metric in store.get(name) or ()
        )

    async def _fetch_metrics(self, tool: str, target: str) -> Mapping[str, float] | None:
        try:
            return await self._toolbox.tool(tool).metrics(target)
        except EngineError:  # the tool's status says why; here the values are unknown
            return None

    def _samples(self, target: tuple[str, str], metrics: Mapping[str, float] | None) -> Samples:
        if metrics is None:
            return dict.fromkeys(self._known_keys.get(target, ()), math.nan)
        labels = {"tool": target[0], "target": target[1]}
        found = {metric_series_key(metric, labels): value for metric, value in metrics.items()}
        self._known_keys[target] = tuple(found)
        self._metric_names[target] = list(metrics)
        return found

    def _make_reading(self, now: int, samples: Samples, *, complete: bool) -> Reading:
        counts = [(key, value) for key, value in samples.items() if _is_counter(key.metric)]
        rates = dict(self._counter_rates.update(counts, time.monotonic()))
        values = samples | rates
        values |= _hit_ratios(rates) | _mean_durations(rates)
        keys = tuple(sorted(values, key=str))
        if keys != self._keys:
            self._keys = keys
        column = np.array([values[key] for key in self._keys], np.float64)
        return Reading(now, self._keys, np.full(len(column), now, np.int64), column, complete)

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return unit and kind of a series."""
        rate = _is_counter(key.metric)
        return SeriesInfo(key, unit_of(key.metric, rate=rate), "rate" if rate else "gauge")

    def skipped_series(self) -> Sequence[str]:
        """Return an empty tuple: no series is skipped."""
        return ()

    def detail(self) -> str:
        """Return one line about the series it watches."""
        return f"{self._target_count} targets of {len(self._toolbox.names())} tools, {len(self._keys)} series"

    async def close(self) -> None:
        """Do nothing: the toolbox is closed by its owner."""


def metric_series_key(metric: str, labels: Mapping[str, str]) -> SeriesKey:
    """Return the series of a tool's metric, whose name may contain labels.

    >>> str(metric_series_key('pg_locks_count{mode="exclusive"}', {"tool": "db", "target": "shop"}))
    'pg_locks_count{mode="exclusive",target="shop",tool="db"}'
    """
    own = _LABELLED.fullmatch(metric)
    if own is None:
        return SeriesKey.of(ToolsSource.name, metric, dict(labels))
    return SeriesKey.of(ToolsSource.name, own["metric"], {**dict(_LABEL.findall(own["labels"])), **labels})


def _is_counter(metric: str) -> bool:
    known = "gauge" if metric in _GAUGE_METRICS else ""
    return _COUNTER_METRICS.fullmatch(metric) is not None or is_counter(metric, known)


def _hit_ratios(rates: Samples) -> Samples:
    """Return the hit ratios (0..1) of the rates; NaN when there was no traffic."""
    found: Samples = {}
    for key, hits in rates.items():
        for name, (hits_metric, misses_metric) in HIT_RATIOS.items():
            if key.metric == hits_metric:
                misses = rates.get(SeriesKey(key.source, misses_metric, key.labels), math.nan)
                found[SeriesKey(key.source, name, key.labels)] = _ratio_or_nan(hits, hits + misses)
    return found


def _mean_durations(rates: Samples) -> Samples:
    """Return mean durations over the interval in seconds; NaN when nothing was observed."""
    found: Samples = {}
    for key, seconds in rates.items():
        if key.metric.endswith(_SUM_SUFFIX):
            stem = key.metric.removesuffix(_SUM_SUFFIX)
            count = rates.get(SeriesKey(key.source, stem + _COUNT_SUFFIX, key.labels), math.nan)
            found[SeriesKey(key.source, stem + _MEAN_SUFFIX, key.labels)] = _ratio_or_nan(seconds, count)
    return found


def _ratio_or_nan(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
