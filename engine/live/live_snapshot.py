"""The newest tick of one source, indexed for lookup, search and sorting."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.types import Floats, Ints, SeriesInfo, SeriesKey, SeriesView, TickScores
from trimtab.models.contracts import Bools

_LABEL_PAIR = re.compile(r'(?P<label>[a-z_][a-z0-9_]*)="?(?P<value>.*?)"?')
_MAX_CACHED_SEARCHES = 32


class LiveSnapshot:
    """Series of one source with their newest values, by slot.

    tick       : first processed tick
    interval_s : seconds between ticks
    detectors  : names of the detectors, by index in the scores
    info       : returns unit, kind and help text of a series
    """

    def __init__(
        self,
        tick: TickResult,
        interval_s: float,
        detectors: tuple[str, ...],
        info: Callable[[SeriesKey], SeriesInfo],
    ) -> None:
        self.source = tick.scores.source
        self.interval_s = interval_s
        self.detectors = detectors
        self.series_info = info
        self.keys: tuple[SeriesKey, ...] = ()
        self.names: list[str] = []
        """Prometheus form of each series."""
        self.ranks: Ints = np.empty(0, np.int64)
        """Position of each slot in `sorted_names`."""
        self.sorted_names: list[str] = []
        self._lower_names: list[str] = []
        self._slots: dict[str, int] = {}
        self._search_cache: dict[str, Bools] = {}
        self._times: Ints = np.empty(0, np.int64)
        self.update(tick)

    def can_continue(
        self,
        tick: TickResult,
        interval_s: float,
        detectors: tuple[str, ...],
        info: Callable[[SeriesKey], SeriesInfo],
    ) -> bool:
        """Return whether a tick comes from the same detector: False after a source was replaced or reset."""
        same = (self.interval_s, self.detectors, self.series_info) == (interval_s, detectors, info)
        return same and len(tick.keys) >= len(self.keys)

    def update(self, tick: TickResult) -> None:
        """Take over the next tick."""
        if tick.keys is not self.keys:
            self._index_keys(tick.keys)
        self.scores: TickScores = tick.scores
        self.visible: Bools = tick.visible
        self.open_ids = tick.open_ids
        self._learning_ticks = tick.learning_ticks
        has_value = ~np.isnan(tick.scores.values)
        self._times[has_value] = tick.scores.time
        score = tick.scores.anomaly_score[self.visible]
        self.series_count = int(self.visible.sum())
        self.learning_count = int(np.count_nonzero(self._learning_ticks[self.visible]))
        self.scored_count = self.series_count - self.learning_count
        self.unusual_count = int(np.count_nonzero(score > 1.0))

    def _index_keys(self, keys: tuple[SeriesKey, ...]) -> None:
        """Index the keys; only slots whose key changed are processed."""
        times = np.zeros(len(keys), np.int64)
        for slot, key in enumerate(keys):
            if slot < len(self.keys) and self.keys[slot] is key:
                times[slot] = self._times[slot]
                continue
            name = str(key)
            self.names[slot : slot + 1] = [name]
            self._lower_names[slot : slot + 1] = [name.lower()]
        order = sorted(range(len(keys)), key=self.names.__getitem__)
        self.ranks = np.empty(len(keys), np.int64)
        self.ranks[order] = np.arange(len(keys))
        self.sorted_names = [self.names[slot] for slot in order]
        self.keys, self._times, self._search_cache = keys, times, {}
        self._slots = {key.id: slot for slot, key in enumerate(keys)}

    def slot_of(self, series_id: str) -> int | None:
        """Return the slot of a series, also of one that left recently; None = unknown."""
        return self._slots.get(series_id)

    def rank_after(self, name: str) -> int:
        """Return the rank of the first name after `name`."""
        return bisect_right(self.sorted_names, name)

    def matching_slots(self, search: str) -> Ints:
        """Return the shown slots that match every word and label=value pair of a search."""
        words = tuple(sorted(set(search.lower().split())))
        if not words:
            return np.flatnonzero(self.visible)
        query = " ".join(words)
        if query not in self._search_cache:
            if len(self._search_cache) >= _MAX_CACHED_SEARCHES:
                del self._search_cache[next(iter(self._search_cache))]
            self._search_cache[query] = self._search(words)
        return np.flatnonzero(self.visible & self._search_cache[query])

    def _search(self, words: tuple[str, ...]) -> Bools:
        texts = self._lower_names
        remaining = list(range(len(texts)))
        for word in words:
            forms = _search_forms(word)
            remaining = [slot for slot in remaining if any(form in texts[slot] for form in forms)]
        matches = np.zeros(len(self._lower_names), np.bool_)
        matches[remaining] = True
        return matches

    def series_view(self, slot: int) -> SeriesView:
        """Return a series as the API shows it."""
        key, scores = self.keys[slot], self.scores
        info = self.series_info(key)
        detector_index = int(scores.detector[slot])
        return SeriesView(
            id=key.id, series=self.names[slot], source=key.source, metric=key.metric, labels=dict(key.labels),
            unit=info.unit, kind=info.kind, time=int(self._times[slot]) or None,
            value=_finite_or_none(scores.values, slot),
            anomaly_score=_finite_or_none(scores.anomaly_score, slot),
            yhat=_finite_or_none(scores.yhat, slot), yhat_lower=_finite_or_none(scores.yhat_lower, slot),
            yhat_upper=_finite_or_none(scores.yhat_upper, slot),
            learning_s=float(self._learning_ticks[slot]) * self.interval_s,
            anomaly_id=self.open_ids.get(slot),
            detector=self.detectors[detector_index] if detector_index >= 0 else None,
        )  # fmt: skip


def _search_forms(word: str) -> tuple[str, ...]:
    """Return the substrings that a search word matches in the Prometheus form of a series.

    >>> _search_forms("cpu"), _search_forms('core="1"')
    (('cpu',), ('{core="1"', ',core="1"'))
    """
    pair = _LABEL_PAIR.fullmatch(word)
    if pair is None:
        return (word,)
    inside = f'{pair["label"]}="{pair["value"]}"'
    return (f"{{{inside}", f",{inside}")


def _finite_or_none(column: Floats, slot: int) -> float | None:
    value = float(column[slot])
    return value if math.isfinite(value) else None
