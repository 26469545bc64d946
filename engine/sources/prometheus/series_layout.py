"""From the raw series of a Prometheus to the series that are watched.

A gauge stays itself, a counter becomes its rate, the buckets of a histogram become p50 and p99.
Everything is arrays over raw slots, (n_raw,) for a moment or (n_ticks, n_raw) for a stretch of history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trimtab.engine.sources.prometheus.query_plan import OWN_SERIES, Kind, Meta, family_of, meta_of
from trimtab.engine.sources.rates import unit_of
from trimtab.engine.types import Floats, Ints, SeriesInfo, SeriesKey

Kept = TypeVar("Kept", bound=np.generic)
QUANTILES = ((0.5, "p50"), (0.99, "p99"))
_KNOWN_PER_SERIES = 10
RawLabels = tuple[tuple[str, str], ...]
"""Labels of a raw series as Prometheus sent them, `__name__` among them."""


def quantile_of_buckets(q: float, upper: Floats, rates: Floats) -> Floats:
    """Quantile of classic histograms, by linear interpolation as PromQL's histogram_quantile does it.

    upper : (n_buckets,) upper bounds, ascending, the last +Inf
    rates : (..., n_buckets) growth per second of the cumulative buckets
    NaN where nothing was observed or a bucket is not known. A quantile in the last bucket is its lower bound.

    >>> quantile_of_buckets(0.5, np.array([1.0, 2.0, np.inf]), np.array([2.0, 8.0, 8.0])).tolist()
    1.3333333333333333
    """
    steady = np.maximum.accumulate(rates, axis=-1)  # a scrape is no snapshot: buckets may disagree a little
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
class _Arrays:
    """Where each output comes from; made anew when series came.

    histograms : for each set of bounds: upper (n_buckets,), raw slots (n, n_buckets), output of p50 (n,)
    """

    gauges: tuple[Ints, Ints]
    counters: tuple[Ints, Ints]
    histograms: list[tuple[Floats, Ints, Ints]]
    raw_of_output: Ints


@dataclass(slots=True)
class Layout:
    """Raw slots, watched series, and the way from the one to the other. Slots are never moved.

    cap : at most so many watched series; the rest is refused, its names are in `refused`
    """

    kinds: Mapping[str, Kind]
    metadata: Mapping[str, Meta]
    cap: int
    source: str = "prometheus"
    raw: dict[RawLabels, int] = field(default_factory=dict)
    labels: list[RawLabels] = field(default_factory=list)
    keys: list[SeriesKey] = field(default_factory=list)
    infos: dict[SeriesKey, SeriesInfo] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    _plain: dict[Kind, list[tuple[int, int]]] = field(default_factory=dict)
    _groups: dict[RawLabels, tuple[int, dict[float, int]]] = field(default_factory=dict)
    _known: dict[RawLabels, int] = field(default_factory=dict)
    _arrays: _Arrays | None = None

    @property
    def n_raw(self) -> int:
        """Raw slots."""
        return len(self.labels)

    def slot(self, metric: Mapping[str, str]) -> int:
        """Raw slot of a series in an answer; -1 where it is not watched. New series get a slot."""
        sent = tuple(metric.items())
        found = self._known.get(sent)
        if found is None:
            if len(self._known) >= _KNOWN_PER_SERIES * self.cap:
                return -1  # a flood; the next look at the server counts it
            found = self._known[sent] = self._add(tuple(sorted(sent)))
        return found

    def _add(self, labels: RawLabels) -> int:
        if labels in self.raw:
            return self.raw[labels]
        by_name = dict(labels)
        name = by_name.pop("__name__", "")
        kind = self.kinds.get(name, Kind.NOTHING)
        if kind is Kind.NOTHING or (name in OWN_SERIES and "for" in by_name):
            return -1
        slot = len(self.labels)
        if not self._output(name, kind, by_name, slot):
            self.refused[name] = self.refused.get(name, 0) + 1
            return -1
        self.raw[labels] = slot
        self.labels.append(labels)
        self._arrays = None
        return slot

    def _output(self, name: str, kind: Kind, labels: dict[str, str], slot: int) -> bool:
        if kind is not Kind.BUCKET:
            key = SeriesKey.of(self.source, name, labels)
            if len(self.keys) >= self.cap or key in self.infos:
                return False
            self._plain.setdefault(kind, []).append((slot, len(self.keys)))
            self._watch(key, name, rate=kind is Kind.COUNTER)
            return True
        bound = _bound(labels.pop("le", ""))
        if bound is None:
            return False
        group = (("__name__", name), *sorted(labels.items()))
        if group not in self._groups:
            family = family_of(name)[0]
            keys = [SeriesKey.of(self.source, f"{family}_{suffix}", labels) for _, suffix in QUANTILES]
            if len(self.keys) + len(keys) > self.cap or any(key in self.infos for key in keys):
                return False
            self._groups[group] = (len(self.keys), {})
            for key in keys:
                self._watch(key, family)
        self._groups[group][1][bound] = slot
        return True

    def _watch(self, key: SeriesKey, name: str, *, rate: bool = False) -> None:
        meta = meta_of(name, self.metadata)
        unit = unit_of(name, rate=rate, metadata_unit=meta.unit)
        self.keys.append(key)
        self.infos[key] = SeriesInfo(key, unit, "rate" if rate else "gauge", meta.help)

    def _made(self) -> _Arrays:
        if self._arrays is None:
            self._arrays = self._make()
        return self._arrays

    def _make(self) -> _Arrays:
        by_bounds: dict[tuple[float, ...], list[tuple[list[int], int]]] = {}
        for first, slots in self._groups.values():
            bounds = tuple(sorted(slots))
            by_bounds.setdefault(bounds, []).append(([slots[b] for b in bounds], first))
        raw_of_output = np.zeros(len(self.keys), np.int64)
        plain = {kind: _pairs(self._plain.get(kind, [])) for kind in (Kind.GAUGE, Kind.COUNTER)}
        for raw, output in plain.values():
            raw_of_output[output] = raw
        histograms = []
        for bounds, members in by_bounds.items():
            slots_of = np.array([slots for slots, _ in members], np.int64)
            first_of = np.array([first for _, first in members], np.int64)
            for i in range(len(QUANTILES)):
                raw_of_output[first_of + i] = slots_of[:, -1]
            histograms.append((np.array(bounds), slots_of, first_of))
        return _Arrays(plain[Kind.GAUGE], plain[Kind.COUNTER], histograms, raw_of_output)

    def outputs(self, level: Floats, rate: Floats) -> Floats:
        """Values of the watched series, (..., n_keys), from raw values and raw rates, (..., n_raw)."""
        arrays = self._made()
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

    def by_output(self, of_raw: npt.NDArray[Kept]) -> npt.NDArray[Kept]:
        """What holds for the raw series behind each watched one, (n_keys,)."""
        return of_raw[self._made().raw_of_output]

    def keys_by_name(self) -> dict[str, list[SeriesKey]]:
        """The watched series of each raw metric."""
        found: dict[str, list[SeriesKey]] = {}
        for output, slot in enumerate(self._made().raw_of_output.tolist()):
            found.setdefault(dict(self.labels[slot])["__name__"], []).append(self.keys[output])
        return found


def _pairs(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _bound(text: str) -> float | None:
    """Upper bound of a bucket; None where it is no number."""
    try:
        return float(text)
    except ValueError:
        return None
