"""The model gate: whether a challenger may take the champion's place. Decides, changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics
from trimtab.pipelines.model_registry.model_schema import schema_mismatch

MAX_SIZE_RATIO, MAX_LOSS_RATIO, MAX_EXTRA_SILENT = 2.0, 1.02, 0.05
"""Times the champion's size; times the loss of whom it must not lose to; series more without a forecast."""
SMALL_MODEL_BYTES = 2**20
"""A model below this is not too large beside any champion: a doubled file of some kB harms nobody."""
COV90_RANGE, MAX_MISS99, STANDARD_ERRORS = (0.80, 0.98), 0.03, 2.0
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
    figures: ForecastMetrics
    forecaster: str = ""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate says; reasons why not, none = it may pass."""

    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may pass."""
        return not self.reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "passed"


def check_promotion(
    challenger: Candidate,
    champion: Candidate | None,
    naive: ForecastMetrics,
    required: Mapping[str, Any] | None = None,
) -> GateVerdict:
    """Refuse what is too large, of another schema, not finite, too sure of itself or of nothing, or worse.

    Worse is judged by loss, against the champion and seasonal naive.

    champion : None = there is none yet, seasonal naive serves
    asked    : what the settings ask of a model, see `asked.asked`; None = what the champion is asked. A
               champion that is made for something else has no say in the size and the schema of who comes
               after it, else a change of the settings would keep every model away

    >>> good, bad = (Figures(m, m, 0.9, 0.01, 0.0, 100) for m in (0.7, 0.9))
    >>> check_promotion(Candidate(100, {}, good), None, bad).passed
    True
    >>> str(check_promotion(Candidate(100, {}, bad), Candidate(100, {}, good), bad))
    'it errs 28.6% more than the champion (a loss of 0.9 against 0.7; 2% more may be)'
    """
    figures = challenger.figures
    reasons = [*_finite(figures), *_uncovered(figures), *_worse(figures, naive, "seasonal naive")]
    if champion is not None:
        wanted = champion.schema if required is None else required
        reasons += [*_strange(challenger, wanted), *_unlike(challenger, champion, wanted)]
        reasons += _worse(figures, champion.figures, "the champion")
    return GateVerdict(tuple(reasons))


def _finite(figures: ForecastMetrics) -> list[str]:
    if figures.points == 0:
        return ["no value could be compared with a forecast of it: more history is needed"]
    if not (math.isfinite(figures.pinball) and math.isfinite(figures.mase)):
        return ["its figures are not finite"]
    return []


def _strange(challenger: Candidate, wanted: Mapping[str, Any]) -> list[str]:
    why = schema_mismatch(challenger.schema, wanted)
    return [f"{why}; train it for these"] if why else []


def _unlike(challenger: Candidate, champion: Candidate, wanted: Mapping[str, Any]) -> list[str]:
    """How it differs from a champion that is made for the same, where it should not."""
    reasons = []
    mine, before = challenger.size_bytes, champion.size_bytes
    if mine > max(MAX_SIZE_RATIO * before, SMALL_MODEL_BYTES) and not schema_mismatch(
        champion.schema, wanted
    ):
        reasons.append(
            f"it has {mine} bytes, the champion {before}: more than {MAX_SIZE_RATIO:g} times as much"
        )
    same = challenger.forecaster == champion.forecaster
    if same and challenger.schema.get("features") != champion.schema.get("features"):
        reasons.append("its schema differs from the champion's in features")
    return reasons


def _uncovered(figures: ForecastMetrics) -> list[str]:
    """Why its quantiles are not to be believed; within SURE standard errors of the bar it may be chance."""
    reasons = []
    (low, high), slack = COV90_RANGE, STANDARD_ERRORS * figures.cov90_se
    if figures.cov90 + slack < low or figures.cov90 - slack > high:
        reasons.append(
            f"its band of 90 % held {figures.cov90:.1%} of the values; wanted are {low:.0%} to {high:.0%}"
        )
    if figures.miss99 - STANDARD_ERRORS * figures.miss99_se > MAX_MISS99:
        reasons.append(
            f"{figures.miss99:.1%} of the values lay above its quantile 0.99; at most {MAX_MISS99:.0%} may"
        )
    return reasons


def _worse(mine: ForecastMetrics, other: ForecastMetrics, who: str) -> list[str]:
    reasons = []
    if mine.pinball > MAX_LOSS_RATIO * other.pinball:
        more = f"{mine.pinball / other.pinball - 1:.1%} " if other.pinball else ""
        reasons.append(
            f"it errs {more}more than {who} (a loss of {mine.pinball:.3g} against {other.pinball:.3g}; "
            f"{MAX_LOSS_RATIO - 1:.0%} more may be)"
        )
    if mine.silent > other.silent + MAX_EXTRA_SILENT:
        reasons.append(f"{mine.silent:.0%} of the values have no forecast, with {who} {other.silent:.0%}")
    return reasons
