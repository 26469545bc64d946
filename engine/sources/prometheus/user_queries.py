"""User queries: PromQL expressions of the settings; each result element is a series with the label `for`."""

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Query
from trimtab.engine.sources.prometheus.samples import seconds_to_ns
from trimtab.engine.types import SeriesInfo, SeriesKey

log = structlog.get_logger(__name__)

_NAN = float("nan")


def query_series_key(name: str, labels: Mapping[str, str]) -> SeriesKey:
    """Return the series of one element of a query's result.

    >>> str(query_series_key("latency", {"__name__": "x", "path": "/"}))
    'latency{for="latency",path="/"}'
    """
    kept = {label: value for label, value in labels.items() if label != "__name__"}
    return SeriesKey.of("prometheus", name, {**kept, "for": name})


def value_in_range(query: Query, value: float) -> float:
    """Return the value; NaN when it is infinite or outside the query's data_range."""
    if query.data_range is not None and not query.data_range[0] <= value <= query.data_range[1]:
        return _NAN
    return value if abs(value) != float("inf") else _NAN


def select_series(
    found: Collection[SeriesKey], before: Container[SeriesKey], max_count: int
) -> list[SeriesKey]:
    """Select at most `max_count` series: those watched before first, then by name.

    A server gives them in any order, so the first ones would be others each time.
    """
    return sorted(found, key=lambda key: (key not in before, str(key)))[:max_count]


@dataclass(slots=True)
class UserQueries:
    """Newest results of the user queries.

    A query that fails, or gives nothing at all (a filter such as `> 5` may hide everything), leaves its
    series unknown. A series missing from a non-empty result is gone.
    """

    queries: Mapping[str, Query]
    max_series: int
    results: dict[str, dict[SeriesKey, tuple[int, float]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    """Query -> number of series of its newest result beyond `max_series`."""

    def update(self, name: str, answer: Mapping[str, Any] | SourceError) -> None:
        """Store the answer to one query, or the error in its place."""
        if isinstance(answer, SourceError):
            return self._record_error(name, str(answer))
        kind, result = answer.get("resultType"), answer.get("result")
        if kind == "scalar":
            result = [{"metric": {}, "value": result}]
        elif kind != "vector" or not isinstance(result, list):
            return self._record_error(
                name, f"its result is a {kind}; an instant vector or a scalar is needed"
            )
        self.errors.pop(name, None)
        fresh = dict(self._parse_elements(name, result))
        self.results[name] = fresh or self._unknown_values(name)
        return None

    def _parse_elements(
        self, name: str, rows: Iterable[Any]
    ) -> Iterable[tuple[SeriesKey, tuple[int, float]]]:
        found = {query_series_key(name, row["metric"]): row["value"] for row in rows if "value" in row}
        room = max(
            self.max_series - sum(len(known) for other, known in self.results.items() if other != name), 0
        )
        self.skipped[name] = max(len(found) - room, 0)
        for key in found if len(found) <= room else select_series(found, self.results.get(name, {}), room):
            at, value = found[key]
            yield key, (int(seconds_to_ns([at])[0]), value_in_range(self.queries[name], float(value)))

    def _record_error(self, name: str, why: str) -> None:
        if name not in self.errors:
            log.warning("query_failed", query=name, reason=why)
        self.errors[name] = why
        self.results[name] = self._unknown_values(name)

    def _unknown_values(self, name: str) -> dict[SeriesKey, tuple[int, float]]:
        return {key: (at, _NAN) for key, (at, _) in self.results.get(name, {}).items()}

    def samples(self) -> list[tuple[SeriesKey, int, float]]:
        """Return (series, time in int64 ns, value) of all results."""
        return [(key, *sample) for result in self.results.values() for key, sample in result.items()]

    def keys_by_name(self) -> dict[str, list[SeriesKey]]:
        """Return the watched series of each query."""
        return {name: list(self.results.get(name, ())) for name in self.queries}

    def skipped_by_query(self) -> dict[str, int]:
        """Return the number of skipped series of each query that has any."""
        return {name: n for name, n in sorted(self.skipped.items()) if n}

    def info(self, key: SeriesKey) -> SeriesInfo | None:
        """Return the description of a query's series; None for any other series."""
        query = self.queries.get(key.metric) if dict(key.labels).get("for") == key.metric else None
        if query is None:
            return None
        return SeriesInfo(
            key, query.unit, "gauge", query.expr, query.detection_direction, query.min_dev_from_expected
        )
