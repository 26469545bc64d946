"""Runs a simulated fleet through incidents and notices, and says what came of it."""

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
    """What came of one outage.

    delay_s   : from its labelled start to its first notice; inf = nobody was told
    notices   : that people got for it
    incidents : that hold any of its anomalies and are of medium severity or more
    within    : share of its anomalies in the main one of them
    service   : the first suspect is of the service where it began; cause: it is one of its causes
    """

    delay_s: float
    notices: int
    incidents: int
    within: float
    service: bool
    cause: bool


@dataclass
class TrialReport:
    """Of a whole run."""

    outages: list[OutageResult] = field(default_factory=list)
    unrelated_notices: int = 0
    """Notices that are of no outage."""
    unrelated_incidents: dict[str, int] = field(default_factory=dict)
    """Incidents by level, outages left out."""
    anomalies: int = 0
    tick_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """CPU time of a tick: mean, 99th percentile, largest."""

    def share(self, name: str) -> float:
        """Share of the outages for which it holds."""
        return float(np.mean([getattr(one, name) for one in self.outages]))

    def median_delay_s(self) -> float:
        """Of all outages."""
        return float(np.median([one.delay_s for one in self.outages]))


def run_trial(fleet: Fleet, ticks: int) -> TrialReport:
    """Tick by tick, as the engine does it."""
    incidents, notifying = IncidentCorrelator(float(TICK_S)), NotificationPolicy()
    incidents.step(BEGIN, [], fleet.infos())
    last: dict[str, Incident] = {}
    notices: list[Notice] = []
    spent = np.zeros(ticks)
    gc.collect()
    gc.freeze()  # what the simulation holds is none of the engine's
    for tick in range(ticks):
        now = BEGIN + tick * TICK_S * NS
        begin = time.thread_time()
        told = incidents.step(now, fleet.anomalies_by_tick.get(tick, ()))
        notices += notifying.step(now, told)
        spent[tick] = time.thread_time() - begin
        last.update((incident.id, incident) for incident in told)
    gc.unfreeze()
    spent *= 1e3
    report = _make_report(fleet, last, [n for n in notices if n.kind is NoticeKind.FIRING])
    report.anomalies = sum(
        anomaly.end is None for told in fleet.anomalies_by_tick.values() for anomaly in told
    )
    report.tick_ms = (float(spent.mean()), float(np.quantile(spent, 0.99)), float(spent.max()))
    return report


def _make_report(fleet: Fleet, last: dict[str, Incident], notices: list[Notice]) -> TrialReport:
    report = TrialReport()
    going = [incident for incident in last.values() if incident.merged_into is None]
    of_outages: set[str] = set()
    heard: set[int] = set()
    for outage in fleet.outages:
        mine = [incident for incident in going if outage.found & set(incident.anomaly_ids)]
        of_outages.update(incident.id for incident in mine)
        told = [
            k
            for k, notice in enumerate(notices)
            if outage.found & set(_final_incident(notice, last).anomaly_ids)
        ]
        heard.update(told)
        main = max(mine, key=lambda one: len(outage.found & set(one.anomaly_ids)))
        first = main.suspects[0]
        start = min((notices[k].time for k in told), default=None)
        report.outages.append(
            OutageResult(
                delay_s=float("inf") if start is None else (start - outage.start) / NS,
                notices=len(told),
                incidents=sum(str(incident.level) != "low" for incident in mine),
                within=len(outage.found & set(main.anomaly_ids)) / len(outage.found),
                service=first.entity.startswith(f"service{outage.service}/"),
                cause=first.series_id in outage.causes,
            )
        )
    report.unrelated_notices = len(notices) - len(heard)
    for incident in going:
        if incident.id not in of_outages:
            report.unrelated_incidents[str(incident.level)] = (
                report.unrelated_incidents.get(str(incident.level), 0) + 1
            )
    return report


def _final_incident(notice: Notice, last: dict[str, Incident]) -> Incident:
    """The incident of a notice as it was told last, in the one that took it over if one did."""
    incident = last[notice.incident.id]
    while incident.merged_into is not None and incident.merged_into in last:
        incident = last[incident.merged_into]
    return incident
