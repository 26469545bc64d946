"""The model gate: whether a challenger may take the champion's place. Decides, changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.pipelines.backtest_load import Figures

LARGEST, WORSE, SILENT = 2.0, 1.02, 0.05
"""Times the champion's size; times the loss of whom it must not lose to; series more without a forecast."""
SMALL_BYTES = 2**20
"""A model below this is not too large beside any champion: a doubled file of some kB harms nobody."""
COVERED, MISSED, SURE = (0.80, 0.98), 0.03, 2.0
"""Share of values that the band of 90 % must hold; share that may lie above the quantile 0.99, at most;
standard errors beyond which that is no chance."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at the gate.

    schema     : what it must be asked with, and the features that it forecasts from
    figures    : on the very windows on which the other one was judged
    forecaster : its name; features are compared between models of one name only
    """

    size_bytes: int
    schema: Mapping[str, Any]
    figures: Figures
    forecaster: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says; reasons why not, none = it may pass."""

    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may pass."""
        return not self.reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "passed"


def judge(challenger: Candidate, champion: Candidate | None, naive: Figures) -> Verdict:
    """Refuse what is too large, of another schema, not finite, too sure of itself or of nothing, or worse.

    Worse is judged by loss, against the champion and seasonal naive.

    champion : None = there is none yet, seasonal naive serves

    >>> good, bad = (Figures(m, m, 0.9, 0.01, 0.0, 100) for m in (0.7, 0.9))
    >>> judge(Candidate(100, {}, good), None, bad).passed
    True
    >>> str(judge(Candidate(100, {}, bad), Candidate(100, {}, good), bad))
    'its loss is 0.9, that of the champion 0.7: more than 1.02 times as much'
    """
    figures = challenger.figures
    reasons = [*_finite(figures), *_uncovered(figures), *_worse(figures, naive, "seasonal naive")]
    if champion is not None:
        if challenger.size_bytes > max(LARGEST * champion.size_bytes, SMALL_BYTES):
            reasons.append(
                f"it has {challenger.size_bytes} bytes, the champion {champion.size_bytes}: more than "
                f"{LARGEST:g} times as much"
            )
        changed = _changed(challenger, champion)
        if changed:
            reasons.append(f"its schema differs from the champion's in {', '.join(changed)}")
        reasons += _worse(figures, champion.figures, "the champion")
    return Verdict(tuple(reasons))


def _finite(figures: Figures) -> list[str]:
    if figures.points == 0:
        return ["no value could be compared with a forecast of it: more history is needed"]
    if not (math.isfinite(figures.pinball) and math.isfinite(figures.mase)):
        return ["its figures are not finite"]
    return []


def _changed(challenger: Candidate, champion: Candidate) -> list[str]:
    """Names in the schema that differ."""
    names = {*challenger.schema, *champion.schema}
    if challenger.forecaster != champion.forecaster:
        names.discard("features")
    return sorted(name for name in names if challenger.schema.get(name) != champion.schema.get(name))


def _uncovered(figures: Figures) -> list[str]:
    """Why its quantiles are not to be believed; within SURE standard errors of the bar it may be chance."""
    reasons = []
    (low, high), slack = COVERED, SURE * figures.cov90_se
    if figures.cov90 + slack < low or figures.cov90 - slack > high:
        reasons.append(
            f"its band of 90 % held {figures.cov90:.1%} of the values; wanted are {low:.0%} to {high:.0%}"
        )
    if figures.miss99 - SURE * figures.miss99_se > MISSED:
        reasons.append(
            f"{figures.miss99:.1%} of the values lay above its quantile 0.99; at most {MISSED:.0%} may"
        )
    return reasons


def _worse(mine: Figures, other: Figures, who: str) -> list[str]:
    reasons = []
    if mine.pinball > WORSE * other.pinball:
        reasons.append(
            f"its loss is {mine.pinball:.3g}, that of {who} {other.pinball:.3g}: more than {WORSE:g} times "
            "as much"
        )
    if mine.silent > other.silent + SILENT:
        reasons.append(f"{mine.silent:.0%} of the values have no forecast, with {who} {other.silent:.0%}")
    return reasons
