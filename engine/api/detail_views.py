"""Detail views that combine data of several ports: incidents, recommendations, actions, knobs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.api.shapes.json_shapes import Json, anomaly_json
from trimtab.engine.api.shapes.loop_shapes import knob_json, record_json
from trimtab.engine.errors import EngineError, NotFoundError
from trimtab.engine.ports import Ledger, Store, TargetView, Toolbox
from trimtab.engine.types import Action, Change, Incident, Recommendation, ShadowEnd, ToolState, iso

T = TypeVar("T")
MAX_ANOMALIES = 100
MAX_SIMILAR = 5
_DAY_NS = 86_400_000_000_000
_HOUR_NS = 3_600_000_000_000
_MAX_CONCURRENT_READS = 8
"""Number of targets that are read concurrently."""
_READABLE_STATES = (ToolState.UP, ToolState.EXPORT_ONLY)


def incident_detail(loop: LoopPorts, store: Store, incident: Incident) -> Json:
    """Return an incident with its anomalies, changes, recommendations, and similar past incidents."""
    anomalies = _existing(store.anomaly, incident.anomaly_ids[:MAX_ANOMALIES])
    similar = _existing(loop.incidents.incident, incident.similar[:MAX_SIMILAR])
    return {
        **record_json(incident),
        "anomalies": [anomaly_json(anomaly) for anomaly in anomalies],
        "changes": [record_json(change) for change in _nearby_changes(loop, incident)],
        "recommendations": [record_json(r) for r in loop.ledger.recommendations(incident_id=incident.id)],
        "alike": [{**record_json(past), "done": _past_actions(loop.ledger, past)} for past in similar],
    }


def _existing(get: Callable[[str], T], ids: Iterable[str]) -> Iterator[T]:
    """Yield the items that still exist; retention may have deleted some."""
    for item_id in ids:
        try:
            yield get(item_id)
        except NotFoundError:
            continue


def _nearby_changes(loop: LoopPorts, incident: Incident) -> list[Change]:
    """Return the change events of an incident, newest first."""
    until = None if incident.end is None else incident.end + _HOUR_NS
    near = loop.incidents.changes(since=incident.start - _DAY_NS, until=until, limit=1000)
    wanted = set(incident.change_ids)
    return [change for change in near if change.id in wanted]


def _past_actions(ledger: Ledger, incident: Incident) -> list[Json]:
    """Return the actions taken in an incident, with their outcomes."""
    return [
        {"title": recommendation.title, "state": action.state, "words": action.outcome.words}
        for recommendation in ledger.recommendations(incident_id=incident.id)
        for action in ledger.actions(recommendation_id=recommendation.id)
        if action.outcome is not None
    ]


def recommendation_detail(loop: LoopPorts, recommendation: Recommendation) -> Json:
    """Return a recommendation with its actions and the reason why it is blocked."""
    actions = loop.ledger.actions(recommendation_id=recommendation.id)
    return {
        **record_json(recommendation),
        "actions": [record_json(action) for action in actions],
        "waiting": loop.blocked_reasons.get(recommendation.id, ""),
    }


def shadow_summary(recommendations: Iterable[Recommendation]) -> Json:
    """Count the shadow records of recommendations by how they ended.

    >>> shadow_summary([])["actions"], shadow_summary([])["since"]
    (0, None)
    """
    shadows = [item.shadow for item in recommendations if item.shadow is not None]
    ends = Counter(shadow.end for shadow in shadows)
    worse = sum(shadow.got_worse for shadow in shadows)
    first = min((shadow.time for shadow in shadows), default=None)
    return {
        "actions": len(shadows), "over": ends[ShadowEnd.OVER], "done": ends[ShadowEnd.DONE],
        "changed": ends[ShadowEnd.CHANGED], "went_on": ends[ShadowEnd.WENT_ON],
        "open": ends[ShadowEnd.OPEN], "worse": worse, "since": None if first is None else iso(first),
    }  # fmt: skip


def action_detail(ledger: Ledger, action: Action) -> Json:
    """Return an action with its recommendation and its audit rows."""
    asked = action.recommendation_id
    recommendation = next(_existing(ledger.recommendation, () if asked is None else (asked,)), None)
    return {
        **record_json(action),
        "recommendation": None if recommendation is None else record_json(recommendation),
        "audit": [record_json(row) for row in ledger.audit_rows(subject=action.id)],
    }


async def list_all_knobs(toolbox: Toolbox) -> Json:
    """Return the knobs of all readable targets, and the problems of the others."""
    views = [view for view in await toolbox.views() if view.status.state in _READABLE_STATES]
    gate = asyncio.Semaphore(_MAX_CONCURRENT_READS)

    async def ask(tool: str, target: str) -> TargetView:
        async with gate:
            try:
                return await toolbox.target(tool, target)
            except EngineError as error:
                return TargetView(tool, target, {}, (), (), str(error))

    found = await asyncio.gather(*(ask(view.name, target) for view in views for target in view.targets))
    return {
        "items": [knob_json(view, knob, reading) for view in found for knob, reading in view.knobs],
        "problems": [
            {"tool": view.tool, "target": view.target, "problem": view.problem}
            for view in found
            if view.problem
        ],
    }


def last_audit_seq(ledger: Ledger) -> int:
    """Return the largest `seq` of the audit, 0 = empty. Found by bisection, since `seq` has no gaps."""
    low, high = 0, 1024
    while ledger.audit_rows(after=high, limit=1):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ledger.audit_rows(after=middle, limit=1) else (low, middle)
    return low
