"""Detects a lasting step to worse in an entity's metrics after a change event."""

import math

import numpy as np

from trimtab.engine.patterns.entity_view import EntityView
from trimtab.engine.patterns.evidence import Evidence, PatternFinding, weigh_evidence
from trimtab.engine.patterns.metric_window import MetricWindow, ramp
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.types import Change, Floats
from trimtab.engine.types.figures import format_quantity

SETTLE_ROWS = 3
"""Rows to ignore after a change, while the service warms up."""
AFTER_ROWS = 8
"""Rows needed after that."""
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
"""Role -> side that is worse, and factors between which the strength rises from 0 to 1."""


def shift_after_deploy(view: EntityView) -> PatternFinding | None:
    """Return the finding for the change with the clearest degradation, or None."""
    findings = [finding for change in view.changes if (finding := _find_shift(view, change)) is not None]
    return max(findings, key=lambda finding: finding.confidence, default=None)


def _find_shift(view: EntityView, change: Change) -> PatternFinding | None:
    steps: list[tuple[float, str, MetricWindow]] = []
    for role, (side, low, high) in _WORSE.items():
        window = view.metric(role)
        if window is None:
            continue
        strength, factor = _step_strength(window, change.time, side, low, high)
        steps.append((strength, f"{role.value} {format_quantity(factor)} times what it was before", window))
    clear = [step for step in steps if step[0] >= 0.5]
    if not clear:
        return None
    strongest = max(clear, key=lambda step: step[0])
    loaded = _load_ratio(view, change)
    where = "concerns it" if change.labels else "may concern it; it has no labels"
    return weigh_evidence(
        [
            Evidence(5, strongest[0], f"since {change.title!r}: {strongest[1]}", required=True),
            Evidence(2, ramp(loaded, 1.4, 1.15), f"load {format_quantity(loaded)} times what it was before",
                 required=not math.isnan(loaded)),
            Evidence(1, 1.0 if change.labels else 0.5, f"the change {where}"),
        ],
        *(step[2] for step in clear),
    )  # fmt: skip


def _split_at(window: MetricWindow, time: int) -> tuple[Floats, Floats] | None:
    before = window.values[window.times < time]
    after = window.values[window.times >= time][SETTLE_ROWS:]
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    return (before, after) if len(before) >= BEFORE_ROWS and len(after) >= AFTER_ROWS else None


def _step_strength(
    window: MetricWindow, time: int, side: int, low: float, high: float
) -> tuple[float, float]:
    """Return how clearly a metric is worse by a step after `time`, 0..1, and by which factor."""
    parts = _split_at(window, time)
    if parts is None:
        return math.nan, math.nan
    before, after = parts
    middle, current = float(np.median(before)), float(np.median(after))
    spread = 1.4826 * float(np.median(np.abs(before - middle)))
    factor = current / middle if middle > 0 else (math.inf if current > 0 else 1.0)
    outside = float(np.mean(side * (after - middle) > 2.0 * spread))
    newest = float(np.mean(side * (after[-AFTER_ROWS:] - middle) > 2.0 * spread))
    first = float(np.mean(side * (after[:AFTER_ROWS] - middle) > 2.0 * spread))
    drift = float(np.median(before[len(before) // 2 :]) - np.median(before[: len(before) // 2]))
    stepped = 1.0 if abs(drift) < 0.5 * abs(current - middle) else 0.0
    clear = ramp(factor if side > 0 else 1.0 / max(factor, 1e-9), low, high)
    return clear * ramp(min(outside, newest, first), 0.5, 0.8) * stepped, factor


def _load_ratio(view: EntityView, change: Change) -> float:
    load = view.metric(Role.THROUGHPUT)
    parts = None if load is None else _split_at(load, change.time)
    if parts is None or np.median(parts[0]) <= 0:
        return math.nan
    return float(np.median(parts[1]) / np.median(parts[0]))
