"""How often healthy series are unusual here: of anomalies, and of groups of them by how rare they are."""

from collections.abc import Mapping
from typing import Any

WEEK_S = 604_800.0
HALF_LIFE_S = 4 * WEEK_S
PRIOR_EVENTS = 50.0
"""Anomalies that the budget is worth."""
MAX_SURPRISE = 60
"""Rarer groups than this are not told apart; in powers of ten, as `severity.surprise` is."""
SURPRISE_PER_DECADE = 4.0
"""So many powers of ten rarer, a group is assumed to be ten times less frequent: anomalies come in flocks."""


class AlertRates:
    """Frequencies, learnt with a half-life of four weeks from what the budget promises.

    >>> pace = Pace(false_alarms_per_week=1.0)
    >>> round(pace.rate() * WEEK_S, 3)
    1.0
    """

    def __init__(self, false_alarms_per_week: float = 1.0) -> None:
        self.false_alarms_per_week = false_alarms_per_week
        self.events = 0.0
        self.series_seconds = 0.0
        self.seconds = 0.0
        self.groups = [0.0] * (MAX_SURPRISE + 1)
        """Groups that ended, by their surprise in whole powers of ten."""
        self.time: int | None = None
        self.series = 0

    def advance(self, time: int, series: int) -> None:
        """Time passes while so many series are watched."""
        passed = 0.0 if self.time is None else max(time - self.time, 0) / 1e9
        self.time = time if self.time is None else max(time, self.time)
        self.series = series
        rest = 0.5 ** (min(passed, WEEK_S) / HALF_LIFE_S)
        self.events *= rest
        self.series_seconds = self.series_seconds * rest + series * min(passed, WEEK_S)
        self.seconds = self.seconds * rest + min(passed, WEEK_S)
        if passed > 0.0:
            self.groups = [n * rest for n in self.groups]

    def anomaly_rate(self) -> float:
        """Anomalies that begin, a series and second."""
        budget = max(self.false_alarms_per_week, 1e-6) / WEEK_S
        return (PRIOR_EVENTS + self.events) / (PRIOR_EVENTS / budget + self.series_seconds)

    def record_group(self, surprise: float) -> None:
        """A group of anomalies ended that was so surprising, in powers of ten."""
        self.groups[min(int(surprise), MAX_SURPRISE)] += 1.0

    def groups_per_second(self, surprise: float) -> float:
        """Groups that begin, a second, which are at least so surprising."""
        seen: float = sum(self.groups[min(int(surprise), MAX_SURPRISE) :])
        assumed: float = (
            max(self.series, 1) * self.false_alarms_per_week * 10.0 ** (-surprise / SURPRISE_PER_DECADE)
        )
        return (assumed + seen) / (WEEK_S + self.seconds)

    def state(self) -> dict[str, Any]:
        """As plain values."""
        names = ("events", "series_seconds", "seconds", "groups", "time", "series")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, value in state.items():
            setattr(self, name, value)
