"""Query plan: which metrics of a Prometheus are watched, in which form, and the selectors that query them."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from trimtab.engine.errors import SettingsError
from trimtab.engine.sources.rates import is_counter

OWN_SERIES = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper")
"""Metrics that Trimtab's remote-write sink writes back; recognised by the label `for`."""
_CLOCK_METRICS = re.compile(
    r"node_time_seconds|prometheus_tsdb_(head_(min|max)_time|lowest_timestamp)(_seconds)?"
    r"|.+_last_gc_time_seconds|.+_highest_timestamp_(in_)?seconds"
)
"""Metrics that only show the current time."""
EXCLUDED_METRICS = "ALERTS|ALERTS_FOR_STATE|trimtab_.*|.+_info|kube_.+_(labels|annotations)"
"""Metrics that are not measurements, as a PromQL regular expression."""
_EXCLUDED_METRICS = re.compile(EXCLUDED_METRICS)

_UNKNOWN_TYPES = frozenset({"", "unknown", "untyped"})
_SUFFIXES_BY_TYPE = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("_count", "_sum", "_created"),
    "info": ("_info",),
}

_MATCHER = re.compile(
    r"""\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)\s*(?P<next>,|$)"""
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_SELECTOR = re.compile(r"\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?P<inside>.*)\})?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MetricMetadata:
    """Metadata of a metric: type, help text and unit."""

    type: str = ""
    help: str = ""
    unit: str = ""


class MetricKind(Enum):
    """Form in which a metric is watched."""

    GAUGE = "gauge"
    COUNTER = "counter"
    BUCKET = "bucket"
    IGNORED = "nothing"


def parse_selector(text: str) -> str:
    """Return the validated matchers of a series selector, as written between braces.

    Raises SettingsError when it is not a plain selector; functions and ranges belong in `queries`.

    >>> parse_selector("up{job='x'}")
    '__name__="up",job="x"'
    """
    whole = _SELECTOR.fullmatch(text)
    if whole is None or not (whole["name"] or whole["inside"]):
        raise _invalid_selector(text, "it is not a metric name with matchers in braces")
    matchers = [f'__name__="{whole["name"]}"'] if whole["name"] else []
    rest = (whole["inside"] or "").strip()
    while rest:
        matcher = _MATCHER.match(rest)
        if matcher is None:
            raise _invalid_selector(text, f"cannot read {rest[:40]!r}")
        matchers.append(f"{matcher['label']}{matcher['op']}{_quote(matcher['value'])}")
        rest = rest[matcher.end() :]
    return ",".join(matchers)


def _quote(literal: str) -> str:
    """Return a PromQL string literal of any of its three forms in double quotes."""
    value = literal[1:-1] if literal[0] == "`" else _ESCAPE.sub(_unescape, literal[1:-1])
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{value}"'


def _unescape(found: re.Match[str]) -> str:
    try:
        return _ESCAPES[found[1]]
    except KeyError:
        raise _invalid_selector(
            found.string, f"{found[0]!r} is not an escape; write a backslash as two"
        ) from None


def _invalid_selector(text: str, why: str) -> SettingsError:
    return SettingsError(
        f"sources.prometheus.selector is {text!r}: {why}; "
        'write matchers such as {job="api"}; PromQL expressions belong in sources.prometheus.queries'
    )


def name_matcher(names: Iterable[str]) -> str:
    r"""Return a matcher for exactly these metric names.

    >>> print(name_matcher(["up", "node:load:avg", "http.duration"]))
    __name__=~"up|node:load:avg|http\\.duration"
    """
    escaped = (re.sub(r"([.+*?^$()\[\]{}|\\\\])", r"\\\\\1", name) for name in names)
    return f'__name__=~"{"|".join(escaped)}"'


def split_family(name: str) -> tuple[str, str]:
    """Split a metric name into its family and the suffix that its type adds.

    >>> split_family("http_seconds_bucket"), split_family("up")
    (('http_seconds', '_bucket'), ('up', ''))
    """
    for ending in ("_bucket", "_count", "_sum", "_created", "_total"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, ""


def metadata_of(name: str, metadata: Mapping[str, MetricMetadata]) -> MetricMetadata:
    """Return the metadata of a metric, or of the family it belongs to; empty when unknown."""
    own = metadata.get(name, MetricMetadata())
    if own.type not in _UNKNOWN_TYPES:
        return own
    family, ending = split_family(name)
    whole = metadata.get(family, MetricMetadata())
    return whole if ending in _SUFFIXES_BY_TYPE.get(whole.type, ()) else own


def metric_kind(name: str, metadata: Mapping[str, MetricMetadata], names: Container[str]) -> MetricKind:
    """Return the form in which a metric is watched: as it is, as a rate, as quantiles, or not at all.

    names : all metric names; a histogram without a type is recognised by its sibling metrics

    >>> metric_kind("up", {}, {"up"}), metric_kind("lag_seconds_bucket", {}, {"lag_seconds_count"})
    (<MetricKind.GAUGE: 'gauge'>, <MetricKind.BUCKET: 'bucket'>)
    """
    family, ending = split_family(name)
    known = metadata_of(name, metadata).type
    if _EXCLUDED_METRICS.fullmatch(name) or _CLOCK_METRICS.fullmatch(name) or known in {"info", "stateset"}:
        return MetricKind.IGNORED
    sampled = known in {"histogram", "summary"}
    if known in _UNKNOWN_TYPES and ending in {"_bucket", "_sum", "_created"}:
        sampled = f"{family}_count" in names or (ending == "_created" and f"{family}_total" in names)
    if ending == "_created" and (sampled or known == "counter"):
        return MetricKind.IGNORED
    if sampled:
        return {"_bucket": MetricKind.BUCKET, "_sum": MetricKind.IGNORED, "_count": MetricKind.COUNTER}.get(
            ending, MetricKind.GAUGE
        )
    return MetricKind.COUNTER if is_counter(name, known) else MetricKind.GAUGE


def untyped_metrics(names: Iterable[str], metadata: Mapping[str, MetricMetadata]) -> list[str]:
    """Return the metrics for which neither type nor name says whether they only grow.

    Recording rules (a colon in the name) and the metrics Prometheus adds at each scrape are known.
    """
    return [
        name
        for name in names
        if metadata_of(name, metadata).type in _UNKNOWN_TYPES
        and not is_counter(name)
        and not (":" in name or name == "up" or name.startswith("scrape_"))
    ]


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Metrics that are queried together.

    series   : expected number of series
    scrape_s : longest scrape interval among them, seconds
    """

    names: tuple[str, ...]
    series: int
    scrape_s: float
    is_own_series: bool = False


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The watched metrics.

    kinds    : metric -> form in which it is watched
    scrape_s : metric -> scrape interval, seconds; the longest when jobs differ
    skipped  : metric beyond the cap -> number of its series
    """

    kinds: Mapping[str, MetricKind] = field(default_factory=dict)
    series_counts: Mapping[str, int] = field(default_factory=dict)
    scrape_s: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, MetricMetadata] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    def batches(self, max_series: int, max_names: int = 300) -> list[QueryBatch]:
        """Group metrics by scrape interval into batches of about max_series raw series."""
        groups: list[QueryBatch] = []
        order = sorted(self.kinds, key=lambda n: (n in OWN_SERIES, self.scrape_s[n], n))
        names: list[str] = []
        total = 0
        for i, name in enumerate(order):
            names.append(name)
            total += self.series_counts[name]
            after = order[i + 1] if i + 1 < len(order) else None
            full = after is None or total + self.series_counts[after] > max_series or len(names) >= max_names
            if full or after is None or self._must_split(name, after):
                groups.append(QueryBatch(tuple(names), total, self.scrape_s[name], name in OWN_SERIES))
                names, total = [], 0
        return groups

    def _must_split(self, name: str, next_name: str) -> bool:
        own = (name in OWN_SERIES) != (next_name in OWN_SERIES)
        return own or self.scrape_s[name] != self.scrape_s[next_name]


def make_plan(
    counts: Mapping[str, int],
    scrape_s: Mapping[str, float],
    metadata: Mapping[str, MetricMetadata],
    max_series: int,
    watched: Iterable[str] = (),
    undecided: Container[str] = (),
) -> QueryPlan:
    """Choose metrics by name until max_series are watched; metrics watched before come first.

    counts    : metric -> number of series
    scrape_s  : metric -> scrape interval, seconds
    watched   : metrics of the previous plan
    undecided : metrics that wait until their type is known

    A metric that does not fit as a whole is skipped as a whole, so the skipped metrics do not change from
    one discovery to the next.
    """
    kinds = {n: metric_kind(n, metadata, counts) for n in counts}
    before = set(watched)
    chosen: dict[str, MetricKind] = {}
    left_out: dict[str, int] = {}
    room = max_series
    for name in sorted(counts, key=lambda n: (n not in before, n)):
        if kinds[name] is MetricKind.IGNORED or name in undecided:
            continue
        cost = watched_series_count(name, kinds[name], counts)
        if cost > room or counts[name] > 10 * max_series:
            left_out[name] = counts[name]
            continue
        chosen[name] = kinds[name]
        room -= cost
    return QueryPlan(chosen, dict(counts), dict(scrape_s), dict(metadata), left_out)


def watched_series_count(name: str, kind: MetricKind, counts: Mapping[str, int]) -> int:
    """Return the number of watched series of a metric: two quantiles per histogram, else one per series."""
    if kind is not MetricKind.BUCKET:
        return counts[name]
    return 2 * counts.get(f"{split_family(name)[0]}_count", counts[name])
