"""A simulated week of anomalies of a fleet: false alarms of healthy series, and labelled outages.

The alarms come from the real scorer, on the series of `tests.simulations.healthy_series`. `collect_alarms`
runs
services whose series share load, so that their alarms cluster. `Fleet` draws whole clusters of alarms for as
many
services as needed, each at its own time. Alarms of faults come from shifts added to copies of the same
series.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from tests.simulations.healthy_series import INTERVAL_S, KINDS, WEEK_TICKS, make_healthy_series
from trimtab.engine.detection.anomaly_tracker import REPORT_GROWTH, anomaly_id
from trimtab.engine.types import Anomaly, Direction, SeriesInfo, SeriesKey
from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.models.calibration.tail_probability import QUIET_TICKS
from trimtab.models.scorer import Scorer

TICK_S = 5
TICKS = 604_800 // TICK_S
NS = 10**9
BEGIN = 1_767_225_600 * NS
INSTANCES = 2
METRICS = (
    "http_request_duration_seconds:p99", "http_request_duration_seconds:p50", "http_requests_total:rate",
    "http_errors_total:rate", "up", "process_cpu_seconds_total:rate",
    "process_resident_memory_bytes", "process_open_fds", "process_threads",
    "gc_pause_seconds:rate", "heap_used_bytes", "queue_length",
    "queue_wait_seconds:p95", "pool_in_use", "pool_waiting",
    "cache_hit_ratio", "cache_evictions_total:rate", "db_query_duration_seconds:p95",
    "db_queries_total:rate", "db_errors_total:rate", "network_receive_bytes_total",
    "network_transmit_bytes_total", "disk_read_bytes_total", "disk_written_bytes_total",
    "disk_io_time_seconds", "context_switches_total", "sessions_active",
    "logins_total:rate", "retries_total:rate", "timeouts_total:rate",
    "config_reloads_total", "workers_busy", "workers_idle",
    "jobs_total:rate", "jobs_failed_total:rate", "cron_seconds",
    "events_total:rate", "event_lag_seconds", "tls_handshakes_total:rate",
    "dns_seconds:p95",
)  # fmt: skip


@dataclass(frozen=True)
class Alarm:
    """An alarm of one series, in ticks from the start of its cluster or fault.

    reports : (tick, score) each time it is published; end : tick of its last score above 1
    """

    instance: int
    metric: int
    reports: tuple[tuple[int, float], ...]
    end: int

    @property
    def closed(self) -> int:
        """Tick at which its end is published."""
        return self.end + QUIET_TICKS


@dataclass
class AlarmLibrary:
    """Alarms of real scorers.

    flocks : by service and week, groups of alarms close in time
    faults : by metric, the alarms of shifts; None = not detected
    """

    flocks: list[list[list[Alarm]]] = field(default_factory=list)
    faults: dict[int, list[Alarm | None]] = field(default_factory=lambda: defaultdict(list))


def _alarm_from_scores(score, instance, metric, first, last):
    told, best = [], 0.0
    for k in range(first, last + 1):
        if score[k] > 1.0 and score[k] > REPORT_GROWTH * best:
            best = float(score[k])
            told.append((k - first, best))
    return Alarm(instance, metric, tuple(told), last - first)


def _shared_load(rng, ticks):
    """Return a slowly varying load shared by several series; jumps would be events."""
    load, out = 0.0, np.empty(ticks)
    for k, jump in enumerate(rng.normal(size=ticks)):
        load = 0.8 * load + 0.5 * jump
        out[k] = load
    return out


def _service_series(rng, loadings, kinds):
    columns = []
    load = _shared_load(rng, 4 * WEEK_TICKS)
    for _ in range(INSTANCES):
        own = 0.6 * load + 0.6 * _shared_load(rng, 4 * WEEK_TICKS)
        for loading, kind in zip(loadings, kinds, strict=True):
            x = make_healthy_series(kind, rng, 1)[:, 0]
            spread = np.subtract(*np.percentile(x, [75, 25])) / 1.35
            moved = x + loading * spread * own
            columns.append(np.maximum(np.round(moved), 0.0) if kind in {"counts", "sparse"} else moved)
    return np.stack(columns, axis=1)


def collect_alarms(seed, services=3, metrics=40, weeks=4):
    """Return the alarms of so many services, after a first week of learning."""
    rng = np.random.default_rng([seed, 77])
    loadings = np.where(rng.random(metrics) < 0.5, rng.uniform(0.2, 0.7, metrics), 0.0)
    kinds = [KINDS[i % len(KINDS)] for i in rng.permutation(metrics)]
    found = AlarmLibrary()
    for _ in range(services):
        x = _service_series(rng, loadings, kinds)[: weeks * WEEK_TICKS]
        t = np.arange(len(x), dtype=np.int64) * INTERVAL_S * NS
        scorer = Scorer(x.shape[1], INTERVAL_S)
        score = scorer.run(x[:-200], t[:-200]).anomaly_score
        _collect_flocks(found, score[WEEK_TICKS:], metrics)
        _collect_faults(found, scorer, x, t, metrics, rng)
    return found


def _collect_flocks(found, score, metrics, apart=10):
    for first in range(0, len(score) - WEEK_TICKS // 2, WEEK_TICKS):
        week = score[first : first + WEEK_TICKS]
        flocks, last = [], -apart
        for slot, start, end, _ in sorted(
            alarm_intervals(week, np.arange(len(week))), key=lambda alarm: alarm[1]
        ):
            if start - last >= apart:
                flocks.append((start, []))
            last = start
            begin, alarms = flocks[-1]
            alarm = _alarm_from_scores(week[:, slot], slot // metrics, slot % metrics, start, end)
            shifted = tuple((tick + start - begin, value) for tick, value in alarm.reports)
            alarms.append(Alarm(alarm.instance, alarm.metric, shifted, alarm.end + start - begin))
        found.flocks.append([alarms for _, alarms in flocks])


def _collect_faults(found, scorer, x, t, metrics, rng, tries=4):
    """Collect the alarms of shifts by three to ten interquartile ranges, or standard deviations."""
    before, state = x[-200 - WEEK_TICKS : -200], scorer.state()
    low, high = np.percentile(before, [25, 75], axis=0)
    for _ in range(tries):
        size = np.where(high > low, high - low, np.maximum(before.std(axis=0), 1.0))
        shifted = x[-200:-80] + rng.choice([-1, 1], x.shape[1]) * rng.uniform(3, 10, x.shape[1]) * size
        clone = Scorer(x.shape[1], INTERVAL_S)
        clone.restore(state)
        score = clone.run(shifted, t[-200:-80]).anomaly_score
        for slot in range(x.shape[1]):
            above = np.flatnonzero(np.nan_to_num(score[:60, slot]) > 1.0)
            alarm = None
            if len(above) and above[0] < 20:
                alarm = _alarm_from_scores(score[:, slot], 0, slot % metrics, int(above[0]), int(above[-1]))
                late = tuple((tick + int(above[0]), value) for tick, value in alarm.reports)
                alarm = Alarm(0, slot % metrics, late, int(above[-1]))
            found.faults[slot % metrics].append(alarm)


@dataclass(frozen=True)
class Outage:
    """A labelled outage.

    causes : ids of the series where it began; series : ids of all shifted series, dependents included
    """

    start: int
    service: int
    causes: frozenset[str]
    series: frozenset[str]
    found: frozenset[str]
    """Ids of the anomalies that the scorer found in it."""


class Fleet:
    """Services with two instances each, and their anomalies by tick."""

    def __init__(self, harvested, services, seed, metrics=40):
        self.library = harvested
        self.services = services
        self.metrics = metrics
        self.rng = np.random.default_rng([seed, 99])
        self.anomalies_by_tick = defaultdict(list)
        self.outages = []
        self.busy = defaultdict(list)
        self.keys = {}
        for service in range(services):
            for instance in range(INSTANCES):
                for metric in range(metrics):
                    key = SeriesKey.of(
                        "prometheus", METRICS[metric],
                        {"job": f"service{service}", "instance": f"service{service}-{instance}:9000",
                         "namespace": f"team{service // 5}"},
                    )  # fmt: skip
                    self.keys[service, instance, metric] = key

    def infos(self):
        """Return the metadata of all series."""
        return [SeriesInfo(key) for key in self.keys.values()]

    def add_healthy_weeks(self, weeks=1, first=0):
        """Add the false alarms of healthy weeks."""
        for service in range(self.services):
            for week in range(first, first + weeks):
                flocks = self.library.flocks[self.rng.integers(len(self.library.flocks))]
                for flock in flocks:
                    at = int(self.rng.integers(week * TICKS, (week + 1) * TICKS))
                    for alarm in flock:
                        self._add_alarm(service, alarm.instance, alarm, at)

    def _add_alarm(self, service, instance, alarm, at):
        """Add an alarm at a tick, unless the series already has one then; return the anomaly's id or None."""
        key = self.keys[service, instance, alarm.metric]
        first, last = at + alarm.reports[0][0], at + alarm.closed
        if any(first <= end and begin <= last for begin, end in self.busy[key.id]):
            return None
        self.busy[key.id].append((first, last))
        start = BEGIN + first * TICK_S * NS
        name = anomaly_id(key, start, "score")
        direction = Direction.ABOVE if self.rng.random() < 0.6 else Direction.BELOW

        def anomaly(score, end=None):
            return Anomaly(
                id=name, series_id=key.id, series=str(key), source="prometheus", start=start, end=end,
                peak_time=start, score=score, direction=direction, value=9.0, expected=1.0, lower=0.5,
                upper=1.5, labels=dict(key.labels),
            )  # fmt: skip

        for tick, score in alarm.reports:
            self.anomalies_by_tick[at + tick].append(anomaly(score))
        end = BEGIN + (at + alarm.end) * TICK_S * NS
        self.anomalies_by_tick[last].append(anomaly(alarm.reports[-1][1], end))
        return name

    def add_outage(self, at, dependents):
        """Add an outage: 8 to 40 series of a service shift, the causes first, then its dependents."""
        rng, service = self.rng, int(self.rng.integers(self.services))
        n = int(rng.integers(8, 41))
        slots = [(i, m) for i in range(INSTANCES) for m in range(self.metrics)]
        if rng.random() < 0.5:
            slots = [slot for slot in slots if slot[0] == 0]
        chosen = [slots[i] for i in rng.permutation(len(slots))[: min(n, len(slots))]]
        n_causes = int(rng.integers(2, 5))
        hit = [(service, i, m, 0.0 if k < n_causes else float(rng.uniform(5.0, 10.0) + rng.exponential(15.0)))
               for k, (i, m) in enumerate(chosen)]  # fmt: skip
        for k in range(dependents):
            other = (service // 5) * 5 + (service + 1 + k) % 5
            late = float(rng.uniform(10.0, 60.0))
            some = rng.permutation(self.metrics)[: int(rng.integers(4, 13))]
            hit += [(other % self.services, 0, int(m), late + float(rng.exponential(10.0))) for m in some]
        found = {self._add_fault(slot, lag, at) for *slot, lag in hit}
        ids = [self.keys[tuple(slot)].id for *slot, _ in hit]
        outage = Outage(
            BEGIN + at * TICK_S * NS, service, frozenset(ids[:n_causes]), frozenset(ids),
            frozenset(name for name in found if name),
        )  # fmt: skip
        self.outages.append(outage)

    def _add_fault(self, slot, lag, at):
        service, instance, metric = slot
        faults = self.library.faults[metric]
        alarm = faults[self.rng.integers(len(faults))]
        return None if alarm is None else self._add_alarm(service, instance, alarm, at + round(lag / TICK_S))
