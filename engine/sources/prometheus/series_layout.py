"""Series layout: maps the raw series of a Prometheus to the series that are watched.

A gauge stays as it is, a counter becomes its rate, the buckets of a histogram become p50 and p99. All values
are arrays over raw slots: (n_raw,) for one tick, (n_ticks, n_raw) for history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trimtab.engine.sources.prometheus.query_plan import (
    OWN_SERIES,
    MetricKind,
    MetricMetadata,
    metadata_of,
    split_family,
)
from trimtab.engine.sources.rates import unit_of
from trimtab.engine.types import Floats, Ints, SeriesInfo, SeriesKey

Scalar = TypeVar("Scalar", bound=np.generic)
QUANTILES = ((0.5, "p50"), (0.99, "p99"))
_CACHED_PER_SERIES = 10
RawLabels = tuple[tuple[str, str], ...]
"""Labels of a raw series as sent by Prometheus, including `__name__`."""


def quantile_of_buckets(q: float, upper: Floats, rates: Floats) -> Floats:
    """Return a quantile of classic histograms by linear interpolation, like PromQL's histogram_quantile.

    upper : (n_buckets,) upper bounds, ascending, the last +Inf
    rates : (..., n_buckets) increase per second of the cumulative buckets

    NaN when nothing was observed or a bucket is unknown. A quantile in the last bucket is its lower bound.

    >>> quantile_of_buckets(0.5, np.array([1.0, 2.0, np.inf]), np.array([2.0, 8.0, 8.0])).tolist()
    1.3333333333333333
    """
    steady = np.maximum.accumulate(rates, axis=-1)  # buckets of one scrape may disagree slightly
    total = steady[..., -1]
    known = (total > 0) & ~np.isnan(rates).any(axis=-1)
    rank = q * total
    last = len(upper) - 1
    at = np.minimum((steady < rank[..., None]).sum(axis=-1), last)
    below = np.maximum(at - 1, 0)
    low = np.where(at > 0, upper[below], np.minimum(upper[0], 0.0))
    count_low = np.where(at > 0, np.take_along_axis(steady, below[..., None], -1)[..., 0], 0.0)
    inside = np.take_along_axis(steady, at[..., None], -1)[..., 0] - count_low
    high = np.where(at == last, low, upper[at])
    share = np.divide(rank - count_low, inside, out=np.zeros(rank.shape), where=inside > 0)
    return np.where(known & (last > 0), low + (high - low) * share, np.nan)


@dataclass(slots=True)
class _IndexArrays:
    """Source of each output series as index arrays; rebuilt when series are added.

    histograms : per set of bounds: upper (n_buckets,), raw slots (n, n_buckets), output of p50 (n,)
    """

    gauges: tuple[Ints, Ints]
    counters: tuple[Ints, Ints]
    histograms: list[tuple[Floats, Ints, Ints]]
    raw_of_output: Ints


@dataclass(slots=True)
class SeriesLayout:
    """Raw slots, watched series and the mapping between them. Slots never move.

    max_series : most watched series; more are refused and counted in `refused_by_metric`
    """

    kinds: Mapping[str, MetricKind]
    metadata: Mapping[str, MetricMetadata]
    max_series: int
    source: str = "prometheus"
    slot_by_labels: dict[RawLabels, int] = field(default_factory=dict)
    labels: list[RawLabels] = field(default_factory=list)
    keys: list[SeriesKey] = field(default_factory=list)
    infos: dict[SeriesKey, SeriesInfo] = field(default_factory=dict)
    refused_by_metric: dict[str, int] = field(default_factory=dict)
    _plain_pairs: dict[MetricKind, list[tuple[int, int]]] = field(default_factory=dict)
    _bucket_groups: dict[RawLabels, tuple[int, dict[float, int]]] = field(default_factory=dict)
    _slot_cache: dict[RawLabels, int] = field(default_factory=dict)
    _arrays: _IndexArrays | None = None

    @property
    def n_raw(self) -> int:
        """Number of raw slots."""
        return len(self.labels)

    def find_or_add_slot(self, metric: Mapping[str, str]) -> int:
        """Return the raw slot of a series, adding a new one if necessary; -1 when it is not watched."""
        sent = tuple(metric.items())
        found = self._slot_cache.get(sent)
        if found is None:
            if len(self._slot_cache) >= _CACHED_PER_SERIES * self.max_series:
                return -1  # too many series at once; the next discovery counts them
            found = self._slot_cache[sent] = self._add_raw(tuple(sorted(sent)))
        return found

    def _add_raw(self, labels: RawLabels) -> int:
        if labels in self.slot_by_labels:
            return self.slot_by_labels[labels]
        by_name = dict(labels)
        name = by_name.pop("__name__", "")
        kind = self.kinds.get(name, MetricKind.IGNORED)
        if kind is MetricKind.IGNORED or (name in OWN_SERIES and "for" in by_name):
            return -1
        slot = len(self.labels)
        if not self._add_output(name, kind, by_name, slot):
            self.refused_by_metric[name] = self.refused_by_metric.get(name, 0) + 1
            return -1
        self.slot_by_labels[labels] = slot
        self.labels.append(labels)
        self._arrays = None
        return slot

    def _add_output(self, name: str, kind: MetricKind, labels: dict[str, str], slot: int) -> bool:
        if kind is not MetricKind.BUCKET:
            key = SeriesKey.of(self.source, name, labels)
            if len(self.keys) >= self.max_series or key in self.infos:
                return False
            self._plain_pairs.setdefault(kind, []).append((slot, len(self.keys)))
            self._add_key(key, name, rate=kind is MetricKind.COUNTER)
            return True
        bound = _parse_bound(labels.pop("le", ""))
        if bound is None:
            return False
        group = (("__name__", name), *sorted(labels.items()))
        if group not in self._bucket_groups:
            family = split_family(name)[0]
            keys = [SeriesKey.of(self.source, f"{family}_{suffix}", labels) for _, suffix in QUANTILES]
            if len(self.keys) + len(keys) > self.max_series or any(key in self.infos for key in keys):
                return False
            self._bucket_groups[group] = (len(self.keys), {})
            for key in keys:
                self._add_key(key, family)
        self._bucket_groups[group][1][bound] = slot
        return True

    def _add_key(self, key: SeriesKey, name: str, *, rate: bool = False) -> None:
        meta = metadata_of(name, self.metadata)
        unit = unit_of(name, rate=rate, metadata_unit=meta.unit)
        self.keys.append(key)
        self.infos[key] = SeriesInfo(key, unit, "rate" if rate else "gauge", meta.help)

    def _get_arrays(self) -> _IndexArrays:
        if self._arrays is None:
            self._arrays = self._build_arrays()
        return self._arrays

    def _build_arrays(self) -> _IndexArrays:
        by_bounds: dict[tuple[float, ...], list[tuple[list[int], int]]] = {}
        for first, slots in self._bucket_groups.values():
            bounds = tuple(sorted(slots))
            by_bounds.setdefault(bounds, []).append(([slots[b] for b in bounds], first))
        raw_of_output = np.zeros(len(self.keys), np.int64)
        plain = {
            kind: _split_pairs(self._plain_pairs.get(kind, []))
            for kind in (MetricKind.GAUGE, MetricKind.COUNTER)
        }
        for raw, output in plain.values():
            raw_of_output[output] = raw
        histograms = []
        for bounds, members in by_bounds.items():
            slots_of = np.array([slots for slots, _ in members], np.int64)
            first_of = np.array([first for _, first in members], np.int64)
            for i in range(len(QUANTILES)):
                raw_of_output[first_of + i] = slots_of[:, -1]
            histograms.append((np.array(bounds), slots_of, first_of))
        return _IndexArrays(plain[MetricKind.GAUGE], plain[MetricKind.COUNTER], histograms, raw_of_output)

    def watched_values(self, level: Floats, rate: Floats) -> Floats:
        """Return the watched values, (..., n_keys), from raw values and raw rates, (..., n_raw)."""
        arrays = self._get_arrays()
        out = np.full((*level.shape[:-1], len(self.keys)), np.nan)
        raw, output = arrays.gauges
        out[..., output] = level[..., raw]
        raw, output = arrays.counters
        out[..., output] = rate[..., raw]
        for upper, slots, first in arrays.histograms:
            if np.isinf(upper[-1]):
                grown = rate[..., slots]
                for i, (q, _) in enumerate(QUANTILES):
                    out[..., first + i] = quantile_of_buckets(q, upper, grown)
        out[np.isinf(out)] = np.nan
        return out

    def raw_to_watched(self, of_raw: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Return the value of the raw series behind each watched series, (n_keys,)."""
        return of_raw[self._get_arrays().raw_of_output]

    def keys_by_name(self) -> dict[str, list[SeriesKey]]:
        """Return the watched series of each raw metric."""
        found: dict[str, list[SeriesKey]] = {}
        for output, slot in enumerate(self._get_arrays().raw_of_output.tolist()):
            found.setdefault(dict(self.labels[slot])["__name__"], []).append(self.keys[output])
        return found


def _split_pairs(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _parse_bound(text: str) -> float | None:
    """Return the upper bound of a bucket; None when it is not a number."""
    try:
        return float(text)
    except ValueError:
        return None
