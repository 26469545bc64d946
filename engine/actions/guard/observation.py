"""Observes a proposal's target, its input series and mass anomalies for the guard."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from trimtab.engine.actions.guard.input_quality import SampleWindow, assess_inputs
from trimtab.engine.actions.guard.situation import InputQuality, MassAnomalyStatus
from trimtab.engine.actions.guard.situation_builder import TargetObservation as Situation
from trimtab.engine.errors import NotFoundError, RefusedError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import CacheWarmer, Clock, Incidents, ScoreLog, TargetView, Tool, Toolbox, ToolView
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import (
    Incident,
    Mode,
    Recommendation,
    SeriesView,
    SourceState,
    SourceStatus,
    WarmingLoad,
)

USUAL_INTERVAL_S = 15.0


class TargetObserver:
    """Observes the target of a proposal. Unknown facts are None, which the guard refuses."""

    def __init__(
        self,
        toolbox: Toolbox,
        live: LiveState,
        scores: ScoreLog,
        incidents: Incidents,
        clock: Clock,
        limits: Guardrails,
    ) -> None:
        self.toolbox = toolbox
        self.live = live
        self.scores = scores
        self.incidents = incidents
        self.clock = clock
        self.limits = limits
        self.generations: Mapping[str, int] = {}
        """Fingerprint -> generation of the newest recommendation."""
        self.load_series: Mapping[str, tuple[str, ...]] = {}
        """Path "tool/target/knob" of a scaled knob -> ids of the load series it follows."""

    async def __call__(self, proposal: Recommendation) -> Situation:
        """Return the observation. Raises NotFoundError, RefusedError or ToolError from the tool."""
        view = await self.toolbox.view(proposal.tool)
        tool = self.toolbox.tool(proposal.tool)
        target = await self.toolbox.target(proposal.tool, proposal.target)
        knob, reading = next(((k, r) for k, r in target.knobs if k.name == proposal.subject), (None, None))
        group = "" if knob is None or proposal.is_action else knob.group
        memory = None
        if knob is not None and not proposal.is_action:
            memory = await tool.outlook(proposal.target, proposal.subject, proposal.after)
        incident = await asyncio.to_thread(self._incident, proposal)
        rests_on = self._input_series(proposal, incident)
        statuses = {
            one.source: self.live.source_status(one.source) for one in rests_on.values() if one is not None
        }
        known = incident is not None or rests_on
        inputs = await asyncio.to_thread(self._inputs, rests_on, statuses) if known else None
        return Situation(
            mode=mode_in(view, proposal.target, proposal.subject),
            targets=tuple(view.targets),
            total_targets=self._total_targets(),
            trial=view.trial,
            knob=None if proposal.is_action else knob,
            action=next((a for a in target.actions if a.name == proposal.subject), None),
            reading=reading,
            inputs=inputs,
            mass=self._mass(incident),
            memory=memory,
            ttl_share=_ttl_share(target),
            warming=await _warming(tool, proposal),
            generation=self.generations.get(proposal.fingerprint, proposal.generation),
            coupled_knobs=frozenset(
                (proposal.tool, proposal.target, one.name)
                for one, _ in target.knobs
                if group and one.group == group
            ),
        )  # fmt: skip

    def _incident(self, proposal: Recommendation) -> Incident | None:
        if proposal.incident_id is None:
            return None
        try:
            return self.incidents.incident(proposal.incident_id)
        except NotFoundError:
            return None

    def _total_targets(self) -> int:
        """Return the number of targets of all enabled tools, without calling any tool."""
        total = 0
        for name in self.toolbox.names():
            with suppress(NotFoundError, RefusedError):
                total += len(self.toolbox.tool(name).targets)
        return total

    def _input_series(
        self, proposal: Recommendation, incident: Incident | None
    ) -> dict[str, SeriesView | None]:
        """Return the input series by id: those of its pattern or its load, and the one of its effect.

        None = the series is no longer watched.
        """
        if incident is None:
            place = f"{proposal.tool}/{proposal.target}/{proposal.subject}"
            return {
                series_id: self.live.watched_series(series_id)
                for series_id in self.load_series.get(place, ())
            }
        seen_in = {i for m in incident.patterns if m.name == proposal.pattern for i in m.series_ids}
        if proposal.effect is not None and proposal.effect.series_id:
            seen_in.add(proposal.effect.series_id)
        return {series_id: self.live.watched_series(series_id) for series_id in sorted(seen_in)}

    def _inputs(
        self, shown: Mapping[str, SeriesView | None], statuses: Mapping[str, SourceStatus]
    ) -> InputQuality:
        """Return the quality of the input series. Reads the score log.

        statuses : by source name
        """
        up = all(one.state is SourceState.UP for one in statuses.values()) if statuses else None
        interval_s = max((one.interval_s for one in statuses.values()), default=USUAL_INTERVAL_S)
        windows = [self._window(series_id, one, interval_s) for series_id, one in shown.items()]
        return assess_inputs(windows, interval_s, up, self.limits)

    def _mass(self, incident: Incident | None) -> MassAnomalyStatus:
        """Count open anomalies outside the incident, of all series, and sources that are down."""
        own = set(incident.anomaly_ids) if incident is not None else set()
        statuses = self.live.sources()
        down = sum(status.state is SourceState.UNKNOWN for status in statuses)
        elsewhere = len(self.live.open_anomaly_ids() - own)
        return MassAnomalyStatus(elsewhere, int(self.live.engine_status()["series"]), down, len(statuses))

    def _window(self, series_id: str, shown: SeriesView | None, interval_s: float) -> SampleWindow:
        now, step = self.clock.now(), round(interval_s * 1e9)
        since = now - round(self.limits.suspicion * 1e9)
        rows = self.scores.read(series_id, since, now + 1)
        if not len(rows.times):
            return SampleWindow(series_id, np.empty(0), None)
        place = (rows.times - rows.times[0]) // step
        x = np.full((now - int(rows.times[0])) // step + 1, np.nan)
        x[np.minimum(place, len(x) - 1)] = rows.value
        known = rows.times[np.isfinite(rows.value)]
        name = series_id if shown is None else shown.series
        age_s = (now - int(known[-1])) / 1e9 if len(known) else None
        return SampleWindow(name, x, age_s, is_event_count=shown is not None and shown.kind == "rate")


def mode_in(view: ToolView, target: str, subject: str) -> Mode:
    """Return the mode of one knob or action of a target; the most specific setting wins."""
    nearest_first = (f"{target}/{subject}", f"{target}/*", subject, "*")
    return next((Mode(view.modes[key]) for key in nearest_first if key in view.modes), Mode.RECOMMEND)


def _ttl_share(target: TargetView) -> float | None:
    """Return the share of Redis keys that expire, 0..1; None = unknown or no keys."""
    keys, expiring = (target.metrics.get(f"redis_db_keys{end}") for end in ("", "_expiring"))
    return expiring / keys if keys and expiring is not None else None


async def _warming(tool: Tool, proposal: Recommendation) -> WarmingLoad | None:
    """Return the load on the cache's origin for a cache warming action; otherwise None."""
    if not proposal.is_action or not proposal.subject.startswith("warm") or not isinstance(tool, CacheWarmer):
        return None
    return await tool.warming_load(proposal.target)
