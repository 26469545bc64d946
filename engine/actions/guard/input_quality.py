"""How well the figures behind a proposal are known, from the last samples of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.engine.actions.guard.situation import Inputs
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Floats

USUAL = 0.1
"""Share of a window in which a level was seen often enough to be a usual one."""
NEAR = 10.0
"""Within this factor two values are of the same level."""


def fell_to_zero(x: Floats) -> bool:
    """Whether a series that is not used to zeros now reads zero.

    x : (n,) by tick, NaN = no sample. The zeros that it ends with do not make zeros usual.

    >>> fell_to_zero(np.array([5.0, 4.0, 0.0, 0.0])), fell_to_zero(np.array([0.0, 3.0, 0.0, 0.0]))
    (True, False)
    """
    known = x[~np.isnan(x)]
    above = np.flatnonzero(known != 0)
    if not len(above) or above[-1] == len(known) - 1:
        return False
    return bool(np.mean(known[: above[-1] + 1] == 0) <= USUAL)


def jumped(x: Floats, factor: float) -> bool:
    """Whether a series left its level for one that is `factor` times higher or lower, in one step.

    x : (n,) by tick, NaN = no sample; zeros say nothing. A level that is visited now and then is no jump.

    >>> jumped(np.array([2.0, 3.0, 2.0, 2000.0]), 100), jumped(np.array([2.0, 30.0, 300.0, 3000.0]), 100)
    (True, False)
    """
    known = np.abs(x[~np.isnan(x) & (x != 0)])
    if len(known) < 2:
        return False
    ratio = np.maximum(known / known[-1], known[-1] / known)
    far, near = np.flatnonzero(ratio >= factor), np.flatnonzero(ratio < NEAR)
    between = len(known) - len(far) - len(near)
    often = len(far) >= USUAL * len(known) and between <= USUAL * len(known)
    return bool(often and far[-1] < near[0])


@dataclass(frozen=True, slots=True)
class Window:
    """The last samples of one series.

    x     : (n,) by tick, oldest first, NaN = no sample; of `guardrails.suspicion`, or all there is
    age_s : of its newest sample; None = there is none
    leaps : it counts events, which may go from nearly none to a flood: a leap is no changed unit
    """

    name: str
    x: Floats
    age_s: float | None
    leaps: bool = False


def look(windows: Sequence[Window], interval_s: float, source_up: bool | None, limits: Guardrails) -> Inputs:
    """What the guard wants to know of a proposal's figures.

    windows    : of every series that the proposal rests on; those that are gone, too
    interval_s : between ticks of their source

    >>> x = np.array([5.0, 4.0, 5.0, 0.0])
    >>> look([Window("hits", x, 3.0)], 15.0, True, Guardrails()).zeroed
    ('hits',)
    """
    ages = [w.age_s / interval_s for w in windows if w.age_s is not None]
    ticks = max(round(limits.window / interval_s), 1)
    newest = [w.x[-ticks:] for w in windows]
    cells = sum(len(x) for x in newest)
    known = sum(int(np.count_nonzero(~np.isnan(x))) for x in newest)
    zeroed = tuple(w.name for w in windows if fell_to_zero(w.x))
    if known and all(_all_zero(x) for x in newest):
        zeroed = tuple(w.name for w in windows)
    return Inputs(
        series=len(windows),
        missing=len(windows) - sum(age <= limits.fresh_intervals for age in ages),
        newest=min(ages, default=None),
        present=known / cells if cells else None,
        source_up=source_up,
        zeroed=zeroed,
        jumped=tuple(w.name for w in windows if not w.leaps and jumped(w.x, limits.unit_jump)),
    )


def _all_zero(x: Floats) -> bool:
    return not np.any(x[~np.isnan(x)])
