"""The promotion gate: decides whether a challenger may replace the champion; changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics
from trimtab.pipelines.model_registry.model_schema import schema_mismatch

MAX_SIZE_RATIO = 2.0
"""Maximum size relative to the champion."""
MAX_LOSS_RATIO = 1.02
"""Maximum loss relative to a rival."""
MAX_EXTRA_SILENT = 0.05
"""Maximum share of values without a forecast, above that of a rival."""
SMALL_MODEL_BYTES = 2**20
"""A model below this size passes the size check, because doubling a few kB harms nothing."""
COV90_RANGE = (0.80, 0.98)
"""Allowed share of values in the 90 % band."""
MAX_MISS99 = 0.03
"""Maximum share of values above the quantile 0.99."""
STANDARD_ERRORS = 2.0
"""A deviation within this many standard errors counts as chance."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at the gate.

    size_bytes : size of its files
    schema     : step, horizon, quantiles and features it is made for
    metrics    : metrics on the same windows as the rival's
    forecaster : name; features are compared only between models of the same name
    """

    size_bytes: int
    schema: Mapping[str, Any]
    metrics: ForecastMetrics
    forecaster: str = ""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Decision of the gate; no reasons = passed."""

    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the challenger passed."""
        return not self.reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "passed"


def check_promotion(
    challenger: Candidate,
    champion: Candidate | None,
    naive: ForecastMetrics,
    required: Mapping[str, Any] | None = None,
) -> GateVerdict:
    """Refuse a challenger that is too large, incompatible, miscalibrated, or worse than its rivals.

    Its loss is compared with that of the champion and of seasonal naive.

    champion : None = there is none, seasonal naive serves
    required : schema that the settings require, see `required_schema`; None = that of the champion. A
               champion made for another schema does not limit the challenger's size and schema, else a change
               of the settings would refuse every model

    >>> good, bad = (ForecastMetrics(m, m, 0.9, 0.01, 0.0, 100) for m in (0.7, 0.9))
    >>> check_promotion(Candidate(100, {}, good), None, bad).passed
    True
    >>> str(check_promotion(Candidate(100, {}, bad), Candidate(100, {}, good), bad))
    'its loss is 28.6% higher than that of the champion (0.9 against 0.7; 2% more is allowed)'
    """
    metrics = challenger.metrics
    reasons = [
        *_finiteness_reasons(metrics),
        *_calibration_reasons(metrics),
        *_loss_reasons(metrics, naive, "seasonal naive"),
    ]
    if champion is not None:
        wanted = champion.schema if required is None else required
        reasons += [*_schema_reasons(challenger, wanted), *_difference_reasons(challenger, champion, wanted)]
        reasons += _loss_reasons(metrics, champion.metrics, "the champion")
    return GateVerdict(tuple(reasons))


def _finiteness_reasons(metrics: ForecastMetrics) -> list[str]:
    if metrics.points == 0:
        return ["none of its forecasts could be compared with a value: more history is needed"]
    if not (math.isfinite(metrics.pinball) and math.isfinite(metrics.mase)):
        return ["its metrics are not finite"]
    return []


def _schema_reasons(challenger: Candidate, wanted: Mapping[str, Any]) -> list[str]:
    mismatch = schema_mismatch(challenger.schema, wanted)
    return [f"{mismatch}; train it for these"] if mismatch else []


def _difference_reasons(challenger: Candidate, champion: Candidate, wanted: Mapping[str, Any]) -> list[str]:
    """Return unwanted differences from a champion with the same purpose."""
    reasons = []
    size, limit = challenger.size_bytes, max(MAX_SIZE_RATIO * champion.size_bytes, SMALL_MODEL_BYTES)
    if size > limit and not schema_mismatch(champion.schema, wanted):
        reasons.append(
            f"it has {size} bytes, the champion {champion.size_bytes}: more than "
            f"{MAX_SIZE_RATIO:g} times as much"
        )
    same = challenger.forecaster == champion.forecaster
    if same and challenger.schema.get("features") != champion.schema.get("features"):
        reasons.append("its features differ from those of the champion")
    return reasons


def _calibration_reasons(metrics: ForecastMetrics) -> list[str]:
    """Return why its quantiles are miscalibrated, beyond STANDARD_ERRORS standard errors."""
    reasons = []
    (low, high), slack = COV90_RANGE, STANDARD_ERRORS * metrics.cov90_se
    if metrics.cov90 + slack < low or metrics.cov90 - slack > high:
        reasons.append(
            f"its 90 % band contains {metrics.cov90:.1%} of the values; allowed are {low:.0%} to {high:.0%}"
        )
    if metrics.miss99 - STANDARD_ERRORS * metrics.miss99_se > MAX_MISS99:
        reasons.append(
            f"{metrics.miss99:.1%} of the values are above its quantile 0.99; "
            f"at most {MAX_MISS99:.0%} are allowed"
        )
    return reasons


def _loss_reasons(challenger: ForecastMetrics, rival: ForecastMetrics, rival_name: str) -> list[str]:
    reasons = []
    if challenger.pinball > MAX_LOSS_RATIO * rival.pinball:
        more = f"{challenger.pinball / rival.pinball - 1:.1%} " if rival.pinball else ""
        reasons.append(
            f"its loss is {more}higher than that of {rival_name} ({challenger.pinball:.3g} against "
            f"{rival.pinball:.3g}; {MAX_LOSS_RATIO - 1:.0%} more is allowed)"
        )
    if challenger.silent > rival.silent + MAX_EXTRA_SILENT:
        reasons.append(
            f"{challenger.silent:.0%} of the values have no forecast, for {rival_name} {rival.silent:.0%}"
        )
    return reasons
