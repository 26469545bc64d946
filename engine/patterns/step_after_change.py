"""Whether an entity is worse by a step since a change, and stays so."""

import math

import numpy as np

from trimtab.engine.patterns.entity_view import EntityView
from trimtab.engine.patterns.evidence import Evidence, PatternFinding, weigh_evidence
from trimtab.engine.patterns.metric_window import MetricWindow, ramp
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.types import Change, Floats
from trimtab.engine.types.figures import format_quantity

SETTLE_ROWS = 3
"""After a change a service warms up: those rows say nothing."""
AFTER_ROWS = 8
"""So many must follow until it is more than a moment."""
BEFORE_ROWS = 12
_WORSE = {
    Role.LATENCY: (+1, 1.25, 1.6),
    Role.ERRORS: (+1, 2.0, 4.0),
    Role.ERROR_RATIO: (+1, 2.0, 4.0),
    Role.CPU: (+1, 1.3, 1.7),
    Role.MEMORY_USED: (+1, 1.2, 1.5),
    Role.HITS: (-1, 1.2, 1.5),
    Role.DEPENDENCY_LATENCY: (+1, 1.3, 1.7),
}
"""Side that is worse, and from which to which factor it is clearly so."""


def shift_after_deploy(scene: EntityView) -> PatternFinding | None:
    """The change after which it is worst off."""
    verdicts = [v for change in scene.changes if (v := _find_shift(scene, change)) is not None]
    return max(verdicts, key=lambda verdict: verdict.confidence, default=None)


def _find_shift(scene: EntityView, change: Change) -> PatternFinding | None:
    signs: list[tuple[float, str, MetricWindow]] = []
    for role, (side, low, high) in _WORSE.items():
        course = scene.metric(role)
        if course is None:
            continue
        strength, factor = _step_strength(course, change.time, side, low, high)
        signs.append((strength, f"{role.value} {format_quantity(factor)} times what it was before", course))
    clear = [sign for sign in signs if sign[0] >= 0.5]
    if not clear:
        return None
    strongest = max(clear, key=lambda sign: sign[0])
    loaded = _load_ratio(scene, change)
    where = "concerns it" if change.labels else "may concern it: it was told without labels"
    return weigh_evidence(
        [
            Evidence(5, strongest[0], f"since {change.title!r}: {strongest[1]}", required=True),
            Evidence(2, ramp(loaded, 1.4, 1.15), f"load {format_quantity(loaded)} times what it was before",
                 required=not math.isnan(loaded)),
            Evidence(1, 1.0 if change.labels else 0.5, f"the change {where}"),
        ],
        *(sign[2] for sign in clear),
    )  # fmt: skip


def _split_at(course: MetricWindow, time: int) -> tuple[Floats, Floats] | None:
    before = course.values[course.times < time]
    after = course.values[course.times >= time][SETTLE_ROWS:]
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    return (before, after) if len(before) >= BEFORE_ROWS and len(after) >= AFTER_ROWS else None


def _step_strength(
    course: MetricWindow, time: int, side: int, low: float, high: float
) -> tuple[float, float]:
    """How clearly a course is worse after a moment by a step, 0..1, and by which factor."""
    parts = _split_at(course, time)
    if parts is None:
        return math.nan, math.nan
    before, after = parts
    middle, now = float(np.median(before)), float(np.median(after))
    spread = 1.4826 * float(np.median(np.abs(before - middle)))
    factor = now / middle if middle > 0 else (math.inf if now > 0 else 1.0)
    beyond = float(np.mean(side * (after - middle) > 2.0 * spread))
    newest = float(np.mean(side * (after[-AFTER_ROWS:] - middle) > 2.0 * spread))
    soon = float(np.mean(side * (after[:AFTER_ROWS] - middle) > 2.0 * spread))
    drift = float(np.median(before[len(before) // 2 :]) - np.median(before[: len(before) // 2]))
    stepped = 1.0 if abs(drift) < 0.5 * abs(now - middle) else 0.0
    clear = ramp(factor if side > 0 else 1.0 / max(factor, 1e-9), low, high)
    return clear * ramp(min(beyond, newest, soon), 0.5, 0.8) * stepped, factor


def _load_ratio(scene: EntityView, change: Change) -> float:
    load = scene.metric(Role.THROUGHPUT)
    parts = None if load is None else _split_at(load, change.time)
    if parts is None or np.median(parts[0]) <= 0:
        return math.nan
    return float(np.median(parts[1]) / np.median(parts[0]))
