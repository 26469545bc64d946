"""Watched series of a Prometheus: the expressions to query and the reading of an answer. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.engine.sources.prometheus.discovery import ScrapeTimings
from trimtab.engine.sources.prometheus.query_plan import MetricKind, QueryBatch, QueryPlan, name_matcher
from trimtab.engine.sources.prometheus.samples import SampleRuns, concatenate, parse_matrix
from trimtab.engine.sources.prometheus.series_layout import SeriesLayout
from trimtab.engine.sources.rates import NS, rates_of_runs
from trimtab.engine.types import Floats, Ints, SeriesKey
from trimtab.models.contracts import Bools

FORGET_AFTER_S = 600
"""A series without samples for this long loses its slot."""
_GAP_SCRAPES = 2.5
_MISSED_SCRAPES = 1.5
_DOWN_SCRAPES = 0.75


@dataclass(frozen=True, slots=True)
class WatchedReading:
    """Reading of one answer: series with a fresh sample, (n,) each; NaN = the value is unknown.

    fresh_count : number of raw series with a fresh sample
    """

    keys: tuple[SeriesKey, ...]
    times: Ints
    values: Floats
    fresh_count: int


class WatchedSeries:
    """Raw series of one query plan, with their scrape intervals, ages and targets.

    tick_s     : interval of the reads, seconds
    max_series : series beyond this number are skipped
    over_cap   : metrics that were watched and no longer fit; their series are unknown (NaN)

    A sample is fresh unless it is older than 1.5 scrape intervals, or its target's `up` is 0 since then.
    """

    def __init__(
        self,
        plan: QueryPlan,
        scrapes: ScrapeTimings,
        tick_s: float,
        max_series: int,
        over_cap: Mapping[str, MetricKind] | None = None,
    ) -> None:
        self.plan = plan
        self.scrapes = scrapes
        self.tick_s = tick_s
        self.max_series = max_series
        self._over_cap = dict(over_cap or {})
        self.layout = SeriesLayout({**plan.kinds, **self._over_cap}, plan.metadata, max_series)
        self._newest_ns: Ints = np.empty(0, np.int64)
        self._scrape_s: Floats = np.empty(0)
        self._max_age_s: Floats = np.empty(0)
        self._up_slots: Ints = np.empty(0, np.int64)
        self._is_over_cap: Bools = np.empty(0, np.bool_)
        self._is_present: Bools = np.empty(0, np.bool_)
        self.keys: tuple[SeriesKey, ...] = ()

    def expressions(self, selector: str, per_query: int) -> list[str]:
        """Return expressions that together give the newest samples of all watched series."""
        return [self.expression(batch, selector) for batch in self.plan.batches(per_query)]

    def expression(self, batch: QueryBatch, selector: str) -> str:
        """Return an expression for the samples of 2.5 scrape intervals, and at least of one tick."""
        window_s = max(_GAP_SCRAPES * batch.scrape_s, self.tick_s + _MISSED_SCRAPES * batch.scrape_s)
        own = ',for=""' if batch.is_own_series else ""
        return f"{{{selector},{name_matcher(batch.names)}{own}}}[{round(window_s * 1000)}ms]"

    def parse_samples(self, rows: Iterable[Mapping[str, Any]]) -> SampleRuns:
        """Parse the answer to one of `expressions`; new series get a slot."""
        return parse_matrix(rows, self.layout.find_or_add_slot)

    def update(self, answers: Sequence[SampleRuns], server_time: int) -> WatchedReading:
        """Return the reading of all answers. server_time : int64 ns; 0 = use the newest samples."""
        samples = concatenate(answers)
        self._add_new_slots()
        level = np.full(self.layout.n_raw, np.nan)
        rate = np.full(self.layout.n_raw, np.nan)
        newest = np.zeros(self.layout.n_raw, np.int64)
        level[samples.slots] = samples.values[samples.last_indices]
        newest[samples.slots] = samples.times[samples.last_indices]
        rate[samples.slots] = self._rates(samples)
        now = server_time or int(np.median(newest[samples.slots])) if len(samples.slots) else server_time
        self._learn_lag(newest, now)
        fresh = self._fresh_mask(level, newest, now)
        self._newest_ns = np.maximum(self._newest_ns, newest)
        return self._make_reading(level, rate, fresh)

    def _rates(self, samples: SampleRuns) -> Floats:
        scrape_s = self._scrape_s[samples.slots]
        span_s = np.maximum(self.tick_s, scrape_s) - scrape_s / 2
        gap_s = _GAP_SCRAPES * scrape_s
        return rates_of_runs(samples.values, samples.times, samples.starts, span_s, gap_s)

    def _learn_lag(self, newest: Ints, now: int) -> None:
        """Allow a higher age for series whose new samples are already old: their exporter sets timestamps."""
        age_s = (now - newest) / NS
        late = (newest > self._newest_ns) & (self._newest_ns > 0) & (age_s > self._max_age_s)
        longest_s = np.minimum(age_s + self._scrape_s / 2, _GAP_SCRAPES * self._scrape_s)
        self._max_age_s = np.where(late, np.maximum(self._max_age_s, longest_s), self._max_age_s)

    def _fresh_mask(self, level: Floats, newest: Ints, now: int) -> Bools:
        fresh = (newest > 0) & (now - newest <= self._max_age_s * NS)
        up = self._up_slots
        if len(up):
            late = newest[up] - newest > _DOWN_SCRAPES * self._scrape_s * NS
            fresh &= ~((up >= 0) & (level[up] == 0) & late)
        return fresh

    def _make_reading(self, level: Floats, rate: Floats, fresh: Bools) -> WatchedReading:
        values = self.layout.watched_values(level, rate)
        present = self.layout.raw_to_watched(fresh | self._is_over_cap)
        values[self.layout.raw_to_watched(~fresh)] = np.nan
        times = self.layout.raw_to_watched(self._newest_ns)
        if not np.array_equal(present, self._is_present):
            keys = tuple(self.layout.keys[i] for i in np.flatnonzero(present))
            self.keys = keys if keys != self.keys else self.keys
            self._is_present = present
        return WatchedReading(self.keys, times[present], values[present], int(fresh.sum()))

    def _add_new_slots(self) -> None:
        """Add new raw series: their scrape interval, allowed age and target."""
        more = self.layout.labels[len(self._newest_ns) :]
        if not more:
            return
        fresh = [self._timing(dict(labels)) for labels in more]
        self._scrape_s = np.append(self._scrape_s, [scrape_s for scrape_s, _ in fresh])
        self._max_age_s = np.append(self._max_age_s, [allowed_s for _, allowed_s in fresh])
        self._newest_ns = np.append(self._newest_ns, np.zeros(len(more), np.int64))
        parked = [dict(labels)["__name__"] in self._over_cap for labels in more]
        self._is_over_cap = np.append(self._is_over_cap, parked)
        targets = [_target_of(labels) for labels in self.layout.labels]
        ups = {t[1:]: slot for slot, t in enumerate(targets) if t[0] == "up"}
        self._up_slots = np.array([-1 if t[0] == "up" else ups.get(t[1:], -1) for t in targets], np.int64)

    def _timing(self, labels: Mapping[str, str]) -> tuple[float, float]:
        target = (labels.get("job", ""), labels.get("instance", ""))
        interval_s, scraping_s = self.scrapes.by_target.get(
            target, (self.plan.scrape_s.get(labels["__name__"], self.tick_s), 0.0)
        )
        return interval_s, _MISSED_SCRAPES * interval_s + scraping_s + 1.0

    def successor(self, plan: QueryPlan, scrapes: ScrapeTimings, now: int) -> "WatchedSeries":
        """Return the watched series of a newer plan with the state of this one; stale series are dropped.

        May run in a thread while `update` runs; series added meanwhile are new to the successor as well.
        """
        parked = {n: k for n, k in self.layout.kinds.items() if n in plan.skipped}
        other = WatchedSeries(plan, scrapes, self.tick_s, self.max_series, parked)
        known = zip(
            list(self.layout.labels), self._newest_ns, self._max_age_s, self._is_over_cap, strict=False
        )
        kept = [
            (newest, allowed_s)
            for labels, newest, allowed_s, is_parked in known
            if (is_parked or now - newest <= FORGET_AFTER_S * NS)
            and other.layout.find_or_add_slot(dict(labels)) >= 0
        ]
        other._add_new_slots()
        if kept:
            other._newest_ns = np.array([newest for newest, _ in kept], np.int64)
            other._max_age_s = np.maximum(other._max_age_s, [allowed_s for _, allowed_s in kept])
        return other

    def reuse_keys(self, before: "WatchedSeries") -> None:
        """Reuse the key tuple of the previous plan, so that equal keys stay the same object."""
        self.keys = before.keys


def _target_of(labels: Iterable[tuple[str, str]]) -> tuple[str, str, str]:
    """Return metric name, job and instance."""
    pairs = dict(labels)
    return pairs["__name__"], pairs.get("job", ""), pairs.get("instance", "")
