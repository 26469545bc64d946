"""Runs a simulated fleet through incidents and notices, and reports the results."""

import gc
import time
from dataclasses import dataclass, field

import numpy as np

from tests.simulations.fleet import BEGIN, NS, TICK_S, Fleet
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.incidents.notification_policy import NotificationPolicy
from trimtab.engine.types import Incident, Notice, NoticeKind


@dataclass
class OutageResult:
    """Result of one outage.

    delay_s   : seconds from its start to its first notice; inf = no notice
    notices   : notices about it
    incidents : incidents of at least medium severity with any of its anomalies
    within    : ratio of its anomalies in the main incident
    service   : the first suspect is of the right service; cause : it is one of the causes
    """

    delay_s: float
    notices: int
    incidents: int
    within: float
    service: bool
    cause: bool


@dataclass
class TrialReport:
    """Result of a run."""

    outages: list[OutageResult] = field(default_factory=list)
    unrelated_notices: int = 0
    """Notices that concern no outage."""
    unrelated_incidents: dict[str, int] = field(default_factory=dict)
    """Incidents by level, outages excluded."""
    anomalies: int = 0
    tick_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """CPU milliseconds per tick: mean, 99th percentile, maximum."""

    def share(self, name: str) -> float:
        """Return the ratio of outages for which a field is true."""
        return float(np.mean([getattr(one, name) for one in self.outages]))

    def median_delay_s(self) -> float:
        """Return the median delay of all outages, seconds."""
        return float(np.median([one.delay_s for one in self.outages]))


def run_trial(fleet: Fleet, ticks: int) -> TrialReport:
    """Run tick by tick, like the engine."""
    incidents, notifying = IncidentCorrelator(float(TICK_S)), NotificationPolicy()
    incidents.step(BEGIN, [], fleet.infos())
    last: dict[str, Incident] = {}
    notices: list[Notice] = []
    tick_s = np.zeros(ticks)
    gc.collect()
    gc.freeze()  # exclude the simulation's objects from the engine's collections
    for tick in range(ticks):
        now = BEGIN + tick * TICK_S * NS
        begin = time.thread_time()
        published = incidents.step(now, fleet.anomalies_by_tick.get(tick, ()))
        notices += notifying.step(now, published)
        tick_s[tick] = time.thread_time() - begin
        last.update((incident.id, incident) for incident in published)
    gc.unfreeze()
    tick_s *= 1e3
    report = _make_report(fleet, last, [n for n in notices if n.kind is NoticeKind.FIRING])
    report.anomalies = sum(
        anomaly.end is None for published in fleet.anomalies_by_tick.values() for anomaly in published
    )
    report.tick_ms = (float(tick_s.mean()), float(np.quantile(tick_s, 0.99)), float(tick_s.max()))
    return report


def _make_report(fleet: Fleet, last: dict[str, Incident], notices: list[Notice]) -> TrialReport:
    report = TrialReport()
    active = [incident for incident in last.values() if incident.merged_into is None]
    of_outages: set[str] = set()
    related: set[int] = set()
    for outage in fleet.outages:
        mine = [incident for incident in active if outage.found & set(incident.anomaly_ids)]
        of_outages.update(incident.id for incident in mine)
        notified = [
            k
            for k, notice in enumerate(notices)
            if outage.found & set(_final_incident(notice, last).anomaly_ids)
        ]
        related.update(notified)
        main = max(mine, key=lambda one: len(outage.found & set(one.anomaly_ids)))
        first = main.suspects[0]
        start = min((notices[k].time for k in notified), default=None)
        report.outages.append(
            OutageResult(
                delay_s=float("inf") if start is None else (start - outage.start) / NS,
                notices=len(notified),
                incidents=sum(str(incident.level) != "low" for incident in mine),
                within=len(outage.found & set(main.anomaly_ids)) / len(outage.found),
                service=first.entity.startswith(f"service{outage.service}/"),
                cause=first.series_id in outage.causes,
            )
        )
    report.unrelated_notices = len(notices) - len(related)
    for incident in active:
        if incident.id not in of_outages:
            report.unrelated_incidents[str(incident.level)] = (
                report.unrelated_incidents.get(str(incident.level), 0) + 1
            )
    return report


def _final_incident(notice: Notice, last: dict[str, Incident]) -> Incident:
    """Return the latest version of a notice's incident, after merges."""
    incident = last[notice.incident.id]
    while incident.merged_into is not None and incident.merged_into in last:
        incident = last[incident.merged_into]
    return incident
