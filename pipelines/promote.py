"""The model gate: whether a challenger may take the champion's place. Decides, changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.pipelines.backtest_load import Figures

LARGEST, WORSE, SILENT = 2.0, 1.02, 0.05
"""Times the champion's size; times the loss of whom it must not lose to; series more without a forecast."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at the gate.

    schema  : what it must be asked with
    figures : on the very windows on which the other one was judged
    """

    size_bytes: int
    schema: Mapping[str, Any]
    figures: Figures


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
    """Refuse what is too large, of another schema, not finite, or worse than the champion or seasonal naive.

    champion : None = there is none yet, seasonal naive serves

    >>> good, bad = (Figures(m, m, 0.9, 0.01, 0.0, 100) for m in (0.7, 0.9))
    >>> judge(Candidate(100, {}, good), None, bad).passed
    True
    >>> str(judge(Candidate(100, {}, bad), Candidate(100, {}, good), bad))
    'its loss is 0.9, that of the champion 0.7: more than 1.02 times as much'
    """
    reasons = [*_finite(challenger.figures), *_worse(challenger.figures, naive, "seasonal naive")]
    if champion is not None:
        if challenger.size_bytes > LARGEST * champion.size_bytes:
            reasons.append(
                f"it has {challenger.size_bytes} bytes, the champion {champion.size_bytes}: more than "
                f"{LARGEST:g} times as much"
            )
        if dict(challenger.schema) != dict(champion.schema):
            changed = sorted(
                name
                for name in {*challenger.schema, *champion.schema}
                if challenger.schema.get(name) != champion.schema.get(name)
            )
            reasons.append(f"its schema differs from the champion's in {', '.join(changed)}")
        reasons += _worse(challenger.figures, champion.figures, "the champion")
    return Verdict(tuple(reasons))


def _finite(figures: Figures) -> list[str]:
    if figures.points == 0:
        return ["no value could be compared with a forecast of it: more history is needed"]
    if not (math.isfinite(figures.pinball) and math.isfinite(figures.mase)):
        return ["its figures are not finite"]
    return []


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
