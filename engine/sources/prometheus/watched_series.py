"""What is watched of a Prometheus, and what an answer says of it at one moment. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.engine.sources.prometheus.discovery import Scrapes
from trimtab.engine.sources.prometheus.query_plan import Batch, Kind, Plan, name_matcher
from trimtab.engine.sources.prometheus.samples import Samples, joined, samples_of
from trimtab.engine.sources.prometheus.series_layout import Layout
from trimtab.engine.sources.rates import NS, rates_of_runs
from trimtab.engine.types import Floats, Ints, SeriesKey
from trimtab.models.contracts import Bools

FORGET_S = 600
"""A series that was not seen for so long gives its slot back."""
_GAP_SCRAPES = 2.5
_MISSED_SCRAPES = 1.5
_DOWN_SCRAPES = 0.75


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer says: series that have a fresh sample, (n,) each; NaN = the value is not known.

    fresh : how many raw series have a fresh sample
    """

    keys: tuple[SeriesKey, ...]
    times: Ints
    values: Floats
    fresh: int


class Watch:
    """Raw series of one plan, and what is known of each.

    tick_s : interval at which it is read
    A series has a fresh sample unless its newest one is older than 1.5 of its scrape intervals, or its
    target's `up` says 0 since. `parked` metrics were watched and are over the cap now: they are unknown.
    """

    def __init__(
        self, plan: Plan, scrapes: Scrapes, tick_s: float, cap: int, parked: Mapping[str, Kind] | None = None
    ) -> None:
        self.plan = plan
        self.scrapes = scrapes
        self.tick_s = tick_s
        self.cap = cap
        self._parked = dict(parked or {})
        self.layout = Layout({**plan.kinds, **self._parked}, plan.metadata, cap)
        self._newest: Ints = np.empty(0, np.int64)
        self._scrape_s: Floats = np.empty(0)
        self._allowed_s: Floats = np.empty(0)
        self._up: Ints = np.empty(0, np.int64)
        self._is_parked: Bools = np.empty(0, np.bool_)
        self._present: Bools = np.empty(0, np.bool_)
        self.keys: tuple[SeriesKey, ...] = ()

    def queries(self, selector: str, per_query: int) -> list[str]:
        """Expressions that together give the newest samples of everything watched."""
        return [self.query(batch, selector) for batch in self.plan.batches(per_query)]

    def query(self, batch: Batch, selector: str) -> str:
        """The samples of the last 2.5 scrape intervals, and at least of a whole tick."""
        window_s = max(_GAP_SCRAPES * batch.scrape_s, self.tick_s + _MISSED_SCRAPES * batch.scrape_s)
        own = ',for=""' if batch.own_names else ""
        return f"{{{selector},{name_matcher(batch.names)}{own}}}[{round(window_s * 1000)}ms]"

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Samples:
        """The samples of an answer to one of `queries`; series that are new get their place."""
        return samples_of(rows, self.layout.slot)

    def take(self, answers: Sequence[Samples], server_time: int) -> Seen:
        """What the answers to all of `queries` say. server_time : int64 ns, 0 = by the newest samples."""
        samples = joined(answers)
        self._grow()
        level = np.full(self.layout.n_raw, np.nan)
        rate = np.full(self.layout.n_raw, np.nan)
        newest = np.zeros(self.layout.n_raw, np.int64)
        level[samples.slots] = samples.values[samples.lasts]
        newest[samples.slots] = samples.times[samples.lasts]
        rate[samples.slots] = self._rates(samples)
        now = server_time or int(np.median(newest[samples.slots])) if len(samples.slots) else server_time
        self._learn_lag(newest, now)
        fresh = self._fresh(level, newest, now)
        self._newest = np.maximum(self._newest, newest)
        return self._seen(level, rate, fresh)

    def _rates(self, samples: Samples) -> Floats:
        scrape_s = self._scrape_s[samples.slots]
        span_s = np.maximum(self.tick_s, scrape_s) - scrape_s / 2
        gap_s = _GAP_SCRAPES * scrape_s
        return rates_of_runs(samples.values, samples.times, samples.starts, span_s, gap_s)

    def _learn_lag(self, newest: Ints, now: int) -> None:
        """Some exporters stamp samples themselves, late: a sample that is new yet old shows how late."""
        age_s = (now - newest) / NS
        late = (newest > self._newest) & (self._newest > 0) & (age_s > self._allowed_s)
        longest_s = np.minimum(age_s + self._scrape_s / 2, _GAP_SCRAPES * self._scrape_s)
        self._allowed_s = np.where(late, np.maximum(self._allowed_s, longest_s), self._allowed_s)

    def _fresh(self, level: Floats, newest: Ints, now: int) -> Bools:
        fresh = (newest > 0) & (now - newest <= self._allowed_s * NS)
        up = self._up
        if len(up):
            late = newest[up] - newest > _DOWN_SCRAPES * self._scrape_s * NS
            fresh &= ~((up >= 0) & (level[up] == 0) & late)
        return fresh

    def _seen(self, level: Floats, rate: Floats, fresh: Bools) -> Seen:
        values = self.layout.outputs(level, rate)
        present = self.layout.by_output(fresh | self._is_parked)
        values[self.layout.by_output(~fresh)] = np.nan
        times = self.layout.by_output(self._newest)
        if not np.array_equal(present, self._present):
            keys = tuple(self.layout.keys[i] for i in np.flatnonzero(present))
            self.keys = keys if keys != self.keys else self.keys
            self._present = present
        return Seen(self.keys, times[present], values[present], int(fresh.sum()))

    def _grow(self) -> None:
        """Learn what there is to know of new raw series: scrape interval, age that is allowed, target."""
        more = self.layout.labels[len(self._newest) :]
        if not more:
            return
        fresh = [self._timing(dict(labels)) for labels in more]
        self._scrape_s = np.append(self._scrape_s, [scrape_s for scrape_s, _ in fresh])
        self._allowed_s = np.append(self._allowed_s, [allowed_s for _, allowed_s in fresh])
        self._newest = np.append(self._newest, np.zeros(len(more), np.int64))
        parked = [dict(labels)["__name__"] in self._parked for labels in more]
        self._is_parked = np.append(self._is_parked, parked)
        targets = [_target(labels) for labels in self.layout.labels]
        ups = {t[1:]: slot for slot, t in enumerate(targets) if t[0] == "up"}
        self._up = np.array([-1 if t[0] == "up" else ups.get(t[1:], -1) for t in targets], np.int64)

    def _timing(self, labels: Mapping[str, str]) -> tuple[float, float]:
        target = (labels.get("job", ""), labels.get("instance", ""))
        interval_s, scraping_s = self.scrapes.of_target.get(
            target, (self.plan.scrape_s.get(labels["__name__"], self.tick_s), 0.0)
        )
        return interval_s, _MISSED_SCRAPES * interval_s + scraping_s + 1.0

    def successor(self, plan: Plan, scrapes: Scrapes, now: int) -> "Watch":
        """A watch by a newer plan that knows what this one knows; long unseen series are dropped.

        May run in a thread beside `take`: what comes meanwhile is new to the successor, too.
        """
        parked = {n: k for n, k in self.layout.kinds.items() if n in plan.left_out}
        other = Watch(plan, scrapes, self.tick_s, self.cap, parked)
        known = zip(list(self.layout.labels), self._newest, self._allowed_s, self._is_parked, strict=False)
        kept = [
            (newest, allowed_s)
            for labels, newest, allowed_s, is_parked in known
            if (is_parked or now - newest <= FORGET_S * NS) and other.layout.slot(dict(labels)) >= 0
        ]
        other._grow()
        if kept:
            other._newest = np.array([newest for newest, _ in kept], np.int64)
            other._allowed_s = np.maximum(other._allowed_s, [allowed_s for _, allowed_s in kept])
        return other

    def go_on_from(self, before: "Watch") -> None:
        """Take over: the same keys are the same tuple."""
        self.keys = before.keys


def _target(labels: Iterable[tuple[str, str]]) -> tuple[str, str, str]:
    """Metric name, job and instance."""
    pairs = dict(labels)
    return pairs["__name__"], pairs.get("job", ""), pairs.get("instance", "")
