"""Result of processing one tick of a source. Cheap to import, without the detection itself."""

from dataclasses import dataclass

import numpy as np

from trimtab.engine.types import Anomaly, Ints, SeriesKey, TickScores
from trimtab.models.contracts import Bools


@dataclass(frozen=True, slots=True)
class TickResult:
    """Result of one tick; arrays by slot.

    keys           : by slot, the identical tuple while no series comes or goes
    scores         : NaN where unknown
    anomalies      : those that opened, closed or grew
    new_slots      : slots of new series
    learning_ticks : (size,) samples that a series still needs until it is scored
    visible        : (size,) bool, series to show: those present, and those with an open anomaly
    open_ids       : slot -> id of its open anomaly
    complete       : the scrape was complete
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
        """Number of samples in this tick."""
        return int(np.count_nonzero(~np.isnan(self.scores.values)))

    @property
    def has_samples(self) -> bool:
        """Whether the tick has any sample."""
        return self.n_samples > 0
