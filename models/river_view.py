"""A bank, or the whole scorer, of one series as a river anomaly detector.

Importing this module imports river (4 s, 95 MB).
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from river import base

from trimtab.models.catalogue import detector as catalogue_detector
from trimtab.models.contracts import Detector, Floats
from trimtab.models.errors import ShapeError

SCORER_NAME = "scorer"
"""Detector name that selects the whole scorer."""


class RiverView(base.AnomalyDetector):
    """One series of a bank with river's `score_one` and `learn_one`.

    detector   : a name in `trimtab.models.catalogue`, "scorer", or a detector or Scorer for one series; the
                 view and each of its clones work on a copy
    feature    : key of the value in the dict; None = its only key
    interval_s : seconds between samples when no time is given
    parameters : parameters of the named detector

    A score is never negative and higher is more unusual; of a two-sided statistic it is the absolute value.
    As in river, it is 0 during warm-up and without a value. Scoring changes nothing.

    >>> view = RiverView("ew_zscore", fading_factor=0.1)
    >>> for k in range(200):
    ...     view.learn_one({"x": float(k % 3)})
    >>> view.score_one({"x": 9.0}) > 8
    True
    """

    def __init__(
        self,
        detector: str | Any = "ew_zscore",  # noqa: ANN401 - Scorer has no protocol
        feature: str | None = None,
        interval_s: float = 60.0,
        **parameters: Any,  # noqa: ANN401 - the detector's
    ) -> None:
        self.detector = detector
        self.feature = feature
        self.interval_s = interval_s
        self.parameters = parameters
        self._bank = _make_bank(detector, interval_s, parameters)
        self._sample_count = 0

    def score_one(self, x: dict[base.typing.FeatureName, Any], t: int | None = None) -> float:
        """Return how unusual the value is; t in int64 ns UTC, None = one interval after the last sample."""
        value = self._value(x)
        if math.isnan(value[0]):
            return 0.0
        scored = self._bank.score(value, self._time(t))
        statistic = float(getattr(scored, "anomaly_score", scored)[0])
        return 0.0 if math.isnan(statistic) else abs(statistic)

    def learn_one(self, x: dict[base.typing.FeatureName, Any], t: int | None = None) -> None:
        """Learn one value; t in int64 ns UTC, None = one interval after the previous sample."""
        value = self._value(x)
        learn: Callable[..., Any] = getattr(self._bank, "learn", self._bank.step)
        learn(value, self._time(t))
        self._sample_count += 1

    def _time(self, t: int | None) -> int:
        return int(self._sample_count * self.interval_s * 1e9) if t is None else t

    def _value(self, x: dict[base.typing.FeatureName, Any]) -> Floats:
        """Return (1,) float64, NaN if the feature is missing. Raises ShapeError if x has several features."""
        if self.feature is None and len(x) > 1:
            raise ShapeError(f"x has several features {sorted(map(str, x))}; choose one with `feature`")
        name = next(iter(x), None) if self.feature is None else self.feature
        return np.array([x.get(name, math.nan)], np.float64)


def _make_bank(detector: Any, interval_s: float, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - see RiverView
    """Return a bank of one series."""
    if isinstance(detector, str):
        if detector != SCORER_NAME:
            return catalogue_detector(detector, n_series=1, **parameters)
        from trimtab.models.scorer import Scorer

        return Scorer(1, interval_s, **parameters)
    if parameters:
        raise ShapeError(
            f"the detector already exists, so {parameters} cannot be applied; set them when creating it"
        )
    if detector.n_series != 1:
        raise ShapeError(
            f"the detector has {detector.n_series} series; a view needs a detector made with n_series=1"
        )
    return copy.deepcopy(detector)


def as_river(detector: str | Detector | Any, **parameters: Any) -> RiverView:  # noqa: ANN401 - see RiverView
    """Return a river anomaly detector of one series; see `RiverView`.

    >>> as_river("half_space_trees", n_trees=5).score_one({"x": 1.0})
    0.0
    """
    return RiverView(detector, **parameters)
