"""Shadow records: what mode auto would have done with a recommendation, and what happened without it.

Each recommendation is evaluated on its own: shadow actions count towards no rate limit and no cooldown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
import structlog

from trimtab.engine.actions.decision_contracts import ALLOW
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.errors import ConflictError, EngineError, NotFoundError, StoreError
from trimtab.engine.ports import Clock, Incidents, Ledger, ScoreLog
from trimtab.engine.types import (
    Incident,
    IncidentState,
    Mode,
    Recommendation,
    RecommendationState,
    Shadow,
    ShadowEnd,
)

log = structlog.get_logger(__name__)

DAY_NS = 86_400 * 10**9
BEFORE_NS = 45 * 10**9
"""Window of the metric's mean before the start, ns. Without samples the recommendation's value is used."""
LIMIT = 1000
_DECIDED = frozenset({RecommendationState.APPLIED, RecommendationState.CLOSED})


class ShadowRecorder:
    """Starts and updates shadow records after each update of the recommendations.

    decide_as_auto : returns the guard's decision as if the mode were auto
    """

    def __init__(
        self,
        incidents: Incidents,
        ledger: Ledger,
        scores: ScoreLog,
        clock: Clock,
        decide_as_auto: Callable[[Recommendation], Awaitable[GuardDecision]],
    ) -> None:
        self.incidents = incidents
        self.ledger = ledger
        self.scores = scores
        self.clock = clock
        self.decide_as_auto = decide_as_auto
        self._open: dict[str, str] | None = None
        """Id -> fingerprint of recommendations with an open record; None = not loaded yet."""

    async def update(self, off: Sequence[Recommendation]) -> list[Recommendation]:
        """Start and update records; return the changed recommendations. Raises StoreError.

        off : recommendations withheld only because their mode is off
        """
        now = self.clock.now()
        if self._open is None:
            self._open = await asyncio.to_thread(self._load_open)
        pending = await asyncio.to_thread(
            self.ledger.recommendations, state=RecommendationState.PENDING, limit=LIMIT
        )
        fresh = [one for one in pending if one.mode is not Mode.AUTO and one.shadow is None]
        followed = set(self._open.values())
        expired = [_as_expired(one) for one in off if one.fingerprint not in followed]
        wanted = {one.fingerprint for one in off}
        changed = [await asyncio.to_thread(self._follow, name, wanted, now) for name in list(self._open)]
        changed += [await self._begin(one, now) for one in [*fresh, *expired] if await self._is_allowed(one)]
        return [one for one in changed if one is not None]

    def _load_open(self) -> dict[str, str]:
        found = self.ledger.recommendations(limit=LIMIT)
        return {one.id: one.fingerprint for one in found if one.shadow is not None and not one.shadow.ended}

    async def _is_allowed(self, one: Recommendation) -> bool:
        """Return whether the guard would allow it; False if the target cannot be read."""
        try:
            return (await self.decide_as_auto(one)).verdict == ALLOW
        except StoreError:
            raise
        except EngineError as error:
            log.info("shadow_decision_unknown", recommendation=one.id, error=str(error))
            return False

    async def _begin(self, one: Recommendation, now: int) -> Recommendation | None:
        incident = await asyncio.to_thread(self._incident, one)
        effect, severity = one.effect, None if incident is None else incident.severity
        shadow = Shadow(now, one.before, one.after, severity=severity, worst=severity)
        if effect is not None and effect.series_id:
            mean = await asyncio.to_thread(self._mean, effect.series_id, now - BEFORE_NS, now)
            before = effect.before if mean is None else mean
            shadow = replace(shadow, figure=effect.figure, unit=effect.unit, figure_before=before)
        expected = None if one.mode is Mode.OFF else one.state
        return await asyncio.to_thread(self._save, one, shadow, "would have been done", expected)

    def _follow(self, name: str, off: set[str], now: int) -> Recommendation | None:
        one = self._find(name)
        shadow = None if one is None else one.shadow
        if one is None or shadow is None:
            self._forget(name)
            return None
        incident = self._incident(one)
        severity = 0.0 if incident is None else incident.severity
        worse = shadow.worst is not None and severity > shadow.worst
        end = self._end(one, shadow, incident, one.fingerprint in off, now)
        if end is not ShadowEnd.OPEN:
            over = incident.end if end is ShadowEnd.OVER and incident is not None else None
            ended = max(over or now, shadow.time)
            mean = self._effect_mean(one, shadow.time, ended)
            worst = severity if worse else shadow.worst
            self._forget(name)
            done = replace(shadow, ended=ended, end=end, figure_since=mean, worst=worst)
            return self._save(one, done, f"without it: {end}", one.state)
        if worse and replace(shadow, severity=shadow.worst, worst=severity).got_worse:
            return self._save(one, replace(shadow, worst=severity), "without it: worse", one.state)
        return None

    def _end(
        self, one: Recommendation, shadow: Shadow, incident: Incident | None, wanted: bool, now: int
    ) -> ShadowEnd:
        if one.state in _DECIDED:
            return ShadowEnd.DONE
        touched = self.ledger.actions(tool=one.tool, target=one.target, since=shadow.time)
        if any(action.started is not None for action in touched):
            return ShadowEnd.CHANGED
        if incident is not None and incident.state is IncidentState.RESOLVED:
            return ShadowEnd.OVER
        if incident is None and not wanted and one.state is RecommendationState.EXPIRED:
            return ShadowEnd.OVER
        return ShadowEnd.WENT_ON if now - shadow.time >= DAY_NS else ShadowEnd.OPEN

    def _save(
        self, one: Recommendation, shadow: Shadow, audit: str, expected: RecommendationState | None
    ) -> Recommendation | None:
        changed = replace(one, shadow=shadow)
        try:
            self.ledger.save_recommendation(changed, audit, ENGINE, expected)
        except ConflictError:  # an operator decided meanwhile; the next update retries
            return None
        if shadow.ended is None and self._open is not None:
            self._open[one.id] = one.fingerprint
        return changed

    def _find(self, name: str) -> Recommendation | None:
        try:
            return self.ledger.recommendation(name)
        except NotFoundError:
            return None

    def _forget(self, name: str) -> None:
        if self._open is not None:
            self._open.pop(name, None)

    def _incident(self, one: Recommendation) -> Incident | None:
        """Return its incident, or the incident it was merged into; None = there is none."""
        name, visited = one.incident_id, set[str]()
        while name is not None and name not in visited:
            visited.add(name)
            try:
                incident = self.incidents.incident(name)
            except NotFoundError:
                return None
            if incident.merged_into is None:
                return incident
            name = incident.merged_into
        return None

    def _effect_mean(self, one: Recommendation, since: int, until: int) -> float | None:
        if one.effect is None or not one.effect.series_id:
            return None
        return self._mean(one.effect.series_id, since, until)

    def _mean(self, series_id: str, since: int, until: int) -> float | None:
        value = self.scores.read(series_id, since, until + 1).value
        known = value[np.isfinite(value)]
        return float(known.mean()) if len(known) else None


def _as_expired(one: Recommendation) -> Recommendation:
    """Return a recommendation with mode off as it is stored: expired, so that nobody can decide it."""
    return replace(
        one, state=RecommendationState.EXPIRED, reason="its mode is off, so it was not recommended"
    )
