"""Which metrics of a Prometheus are watched, as what, and with which selector they are asked for."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from trimtab.engine.errors import SettingsError
from trimtab.engine.sources.rates import is_counter

OWN_SERIES = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper")
"""What a writer such as ours puts back; known by the label `for`."""
_CLOCK_METRICS = re.compile(
    r"node_time_seconds|prometheus_tsdb_(head_(min|max)_time|lowest_timestamp)(_seconds)?"
    r"|.+_last_gc_time_seconds|.+_highest_timestamp_(in_)?seconds"
)
"""Metrics that only show how late it is."""
EXCLUDED_METRICS = "ALERTS|ALERTS_FOR_STATE|trimtab_.*|.+_info|kube_.+_(labels|annotations)"
"""Metrics that are no measurements, as a regular expression of PromQL."""
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
    """What Prometheus knows of a metric: its type, help text and unit."""

    type: str = ""
    help: str = ""
    unit: str = ""


class MetricKind(Enum):
    """What becomes of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    BUCKET = "bucket"
    IGNORED = "nothing"


def parse_selector(text: str) -> str:
    """The matchers of a series selector, checked, in the form that goes between braces.

    Raises SettingsError where it is no plain selector (functions and ranges belong into `queries`).

    >>> parse_selector("up{job='x'}")
    '__name__="up",job="x"'
    """
    whole = _SELECTOR.fullmatch(text)
    if whole is None or not (whole["name"] or whole["inside"]):
        raise _invalid_selector(text, "it is not a metric name with matchers in braces")
    matchers = [f'__name__="{whole["name"]}"'] if whole["name"] else []
    rest = (whole["inside"] or "").strip()
    while rest:
        one = _MATCHER.match(rest)
        if one is None:
            raise _invalid_selector(text, f"cannot read {rest[:40]!r}")
        matchers.append(f"{one['label']}{one['op']}{_quote(one['value'])}")
        rest = rest[one.end() :]
    return ",".join(matchers)


def _quote(literal: str) -> str:
    """A PromQL string in any of its three forms, in double quotes."""
    value = literal[1:-1] if literal[0] == "`" else _ESCAPE.sub(_unescape, literal[1:-1])
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{value}"'


def _unescape(found: re.Match[str]) -> str:
    try:
        return _ESCAPES[found[1]]
    except KeyError:
        raise _invalid_selector(
            found.string, f"{found[0]!r} is no escape; a backslash is written twice"
        ) from None


def _invalid_selector(text: str, why: str) -> SettingsError:
    return SettingsError(
        f"sources.prometheus.selector is {text!r}: {why}; "
        'write matchers such as {job="api"}; PromQL expressions belong into sources.prometheus.queries'
    )


def name_matcher(names: Iterable[str]) -> str:
    r"""A matcher for exactly these metric names.

    >>> print(name_matcher(["up", "node:load:avg", "http.duration"]))
    __name__=~"up|node:load:avg|http\\.duration"
    """
    escaped = (re.sub(r"([.+*?^$()\[\]{}|\\\\])", r"\\\\\1", name) for name in names)
    return f'__name__=~"{"|".join(escaped)}"'


def split_family(name: str) -> tuple[str, str]:
    """A metric name without the ending that its type gives it, and that ending.

    >>> split_family("http_seconds_bucket"), split_family("up")
    (('http_seconds', '_bucket'), ('up', ''))
    """
    for ending in ("_bucket", "_count", "_sum", "_created", "_total"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, ""


def metadata_of(name: str, metadata: Mapping[str, MetricMetadata]) -> MetricMetadata:
    """Metadata of a metric: its own, or that of the family that it belongs to; `Meta()` = nothing known."""
    own = metadata.get(name, MetricMetadata())
    if own.type not in _UNKNOWN_TYPES:
        return own
    family, ending = split_family(name)
    whole = metadata.get(family, MetricMetadata())
    return whole if ending in _SUFFIXES_BY_TYPE.get(whole.type, ()) else own


def metric_kind(name: str, metadata: Mapping[str, MetricMetadata], names: Container[str]) -> MetricKind:
    """What becomes of a metric: watched as it is, as a rate, as quantiles, or not at all.

    names : every metric name there is; where no type is known a histogram is told by its siblings

    >>> metric_kind("up", {}, {"up"}), metric_kind("lag_seconds_bucket", {}, {"lag_seconds_count"})
    (<Kind.GAUGE: 'gauge'>, <Kind.BUCKET: 'bucket'>)
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
    """Metrics of which neither type nor name says whether they only grow.

    A recording rule (its name has a colon) and what Prometheus makes at each scrape are known.
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
    """Metrics that are asked for together.

    series  : how many series are expected
    scrape_s : the longest scrape interval among them
    """

    names: tuple[str, ...]
    series: int
    scrape_s: float
    is_own_series: bool = False


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """What is watched.

    kinds     : of every watched metric
    scrape_s  : scrape interval of every watched metric, the longest where jobs differ
    left_out  : metrics over the cap, with their number of series
    """

    kinds: Mapping[str, MetricKind] = field(default_factory=dict)
    series_counts: Mapping[str, int] = field(default_factory=dict)
    scrape_s: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, MetricMetadata] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    def batches(self, max_series: int, max_names: int = 300) -> list[QueryBatch]:
        """Metrics in groups of about max_series raw series, slow ones apart from quick ones."""
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

    def _must_split(self, one: str, other: str) -> bool:
        own = (one in OWN_SERIES) != (other in OWN_SERIES)
        return own or self.scrape_s[one] != self.scrape_s[other]


def make_plan(
    counts: Mapping[str, int],
    scrape_s: Mapping[str, float],
    metadata: Mapping[str, MetricMetadata],
    max_series: int,
    watched: Iterable[str] = (),
    undecided: Container[str] = (),
) -> QueryPlan:
    """Choose metrics in the order of their names until max_series are watched; those watched already first.

    counts   : metric -> series
    scrape_s : metric -> scrape interval, seconds
    undecided : metrics that wait until it is known what they are
    A metric that does not fit whole is left out whole, so that what is left out does not change from
    one look to the next.
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
    """How many series a metric becomes: two quantiles for each histogram, else each its own."""
    if kind is not MetricKind.BUCKET:
        return counts[name]
    return 2 * counts.get(f"{split_family(name)[0]}_count", counts[name])
