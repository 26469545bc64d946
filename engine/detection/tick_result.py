"""What a tick of one source came to. Light to import: what shows it need not know how it was found."""

from dataclasses import dataclass

import numpy as np

from trimtab.engine.types import Anomaly, Ints, SeriesKey, TickScores
from trimtab.models.contracts import Bools


@dataclass(frozen=True, slots=True)
class TickResult:
    """What a tick came to; arrays by slot.

    keys      : by slot, the very same tuple while nothing came or went
    scores    : NaN where nothing is known
    anomalies : those that opened, closed or grew
    came      : slots of series that are new
    learning  : (size,) samples that are still needed until a series is scored
    shown     : (size,) series that people want to see: those that are there, or missed
    open_ids  : slot -> id of its open anomaly
    certain   : the source answered whole
    """

    keys: tuple[SeriesKey, ...]
    scores: TickScores
    anomalies: tuple[Anomaly, ...]
    new_slots: Ints
    learning_ticks: Ints
    visible: Bools
    open_ids: dict[int, str]
    complete: bool

    @property
    def n_samples(self) -> int:
        """Samples in this tick."""
        return int(np.count_nonzero(~np.isnan(self.scores.values)))

    @property
    def has_samples(self) -> bool:
        """Whether there is anything to keep."""
        return self.n_samples > 0
