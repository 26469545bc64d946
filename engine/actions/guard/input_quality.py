"""Quality of a proposal's input series: freshness, completeness, sudden zeros and level jumps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.engine.actions.guard.situation import InputQuality
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Floats

USUAL_SHARE = 0.1
"""Share of a window, 0..1, from which a level counts as usual."""
NEAR_FACTOR = 10.0
"""Values within this factor belong to the same level."""


def has_sudden_zero(x: Floats) -> bool:
    """Return whether a series that is rarely zero ends with zeros.

    x : (n,) values by tick, NaN = no sample; the final zeros do not count as usual

    >>> [has_sudden_zero(np.array(x)) for x in ([5.0, 4.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0])]
    [True, False]
    """
    known = x[~np.isnan(x)]
    above = np.flatnonzero(known != 0)
    if not len(above) or above[-1] == len(known) - 1:
        return False
    return bool(np.mean(known[: above[-1] + 1] == 0) <= USUAL_SHARE)


def has_level_jump(x: Floats, factor: float) -> bool:
    """Return whether a series moved in one step to a level at least `factor` times higher or lower.

    x : (n,) values by tick, NaN = no sample; zeros are ignored. Returning to a usual level is no jump.

    >>> [has_level_jump(np.array(x), 100) for x in ([2.0, 3.0, 2.0, 2000.0], [2.0, 30.0, 300.0, 3000.0])]
    [True, False]
    """
    known = np.abs(x[~np.isnan(x) & (x != 0)])
    if len(known) < 2:
        return False
    ratio = np.maximum(known / known[-1], known[-1] / known)
    far, near = np.flatnonzero(ratio >= factor), np.flatnonzero(ratio < NEAR_FACTOR)
    between = len(known) - len(far) - len(near)
    often = len(far) >= USUAL_SHARE * len(known) and between <= USUAL_SHARE * len(known)
    return bool(often and far[-1] < near[0])


@dataclass(frozen=True, slots=True)
class SampleWindow:
    """Newest samples of one series.

    values         : (n,) by tick, oldest first, NaN = no sample; covers at most `guardrails.suspicion`
                     seconds
    age_s          : age of the newest sample in seconds; None = no sample
    is_event_count : whether it counts events, whose level may jump without a unit change
    """

    name: str
    values: Floats
    age_s: float | None
    is_event_count: bool = False


def assess_inputs(
    windows: Sequence[SampleWindow], interval_s: float, source_up: bool | None, limits: Guardrails
) -> InputQuality:
    """Return the quality of a proposal's input series.

    windows    : one per input series, including series that have disappeared
    interval_s : scrape interval of their source, seconds
    source_up  : None = unknown

    >>> x = np.array([5.0, 4.0, 5.0, 0.0])
    >>> assess_inputs([SampleWindow("hits", x, 3.0)], 15.0, True, Guardrails()).zeroed
    ('hits',)
    """
    ages = [w.age_s / interval_s for w in windows if w.age_s is not None]
    ticks = max(round(limits.window / interval_s), 1)
    newest = [w.values[-ticks:] for w in windows]
    cells = sum(len(x) for x in newest)
    known = sum(int(np.count_nonzero(~np.isnan(x))) for x in newest)
    zeroed = tuple(w.name for w in windows if has_sudden_zero(w.values))
    if known and all(_all_zero(x) for x in newest):
        zeroed = tuple(w.name for w in windows)
    return InputQuality(
        series=len(windows),
        missing=len(windows) - sum(age <= limits.fresh_intervals for age in ages),
        newest_age=min(ages, default=None),
        present_ratio=known / cells if cells else None,
        source_up=source_up,
        zeroed=zeroed,
        jumped=tuple(
            w.name for w in windows if not w.is_event_count and has_level_jump(w.values, limits.unit_jump)
        ),
    )


def _all_zero(x: Floats) -> bool:
    return not np.any(x[~np.isnan(x)])
