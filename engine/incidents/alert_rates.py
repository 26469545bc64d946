"""Observed rates of anomalies, and of anomaly groups by their surprise."""

from collections.abc import Mapping
from typing import Any

WEEK_S = 604_800.0
HALF_LIFE_S = 4 * WEEK_S
PRIOR_EVENTS = 50.0
"""Weight of the configured budget, in anomalies."""
MAX_SURPRISE = 60
"""Rarer groups are counted together; powers of ten, as in `severity.surprise`."""
SURPRISE_PER_DECADE = 4.0
"""Prior: a group more surprising by this many powers of ten is ten times less frequent, because anomalies
cluster.
"""


class AlertRates:
    """Rates with a half-life of four weeks, starting from the configured budget.

    false_alarms_per_week : anomalies that a healthy series may have in a week

    >>> rates = AlertRates(false_alarms_per_week=1.0)
    >>> round(rates.anomaly_rate() * WEEK_S, 3)
    1.0
    """

    def __init__(self, false_alarms_per_week: float = 1.0) -> None:
        self.false_alarms_per_week = false_alarms_per_week
        self.events = 0.0
        self.series_seconds = 0.0
        self.seconds = 0.0
        self.groups = [0.0] * (MAX_SURPRISE + 1)
        """Ended groups by their surprise in whole powers of ten."""
        self.time: int | None = None
        self.series = 0

    def advance(self, time: int, series: int) -> None:
        """Advance to `time` (int64 ns) while so many series are monitored."""
        elapsed_s = 0.0 if self.time is None else max(time - self.time, 0) / 1e9
        self.time = time if self.time is None else max(time, self.time)
        self.series = series
        decay = 0.5 ** (min(elapsed_s, WEEK_S) / HALF_LIFE_S)
        self.events *= decay
        self.series_seconds = self.series_seconds * decay + series * min(elapsed_s, WEEK_S)
        self.seconds = self.seconds * decay + min(elapsed_s, WEEK_S)
        if elapsed_s > 0.0:
            self.groups = [n * decay for n in self.groups]

    def anomaly_rate(self) -> float:
        """Return the rate of new anomalies per series and second."""
        budget = max(self.false_alarms_per_week, 1e-6) / WEEK_S
        return (PRIOR_EVENTS + self.events) / (PRIOR_EVENTS / budget + self.series_seconds)

    def record_group(self, surprise: float) -> None:
        """Count an ended group of anomalies by its surprise, in powers of ten."""
        self.groups[min(int(surprise), MAX_SURPRISE)] += 1.0

    def groups_per_second(self, surprise: float) -> float:
        """Return the rate, per second, of groups that are at least this surprising."""
        observed: float = sum(self.groups[min(int(surprise), MAX_SURPRISE) :])
        prior: float = (
            max(self.series, 1) * self.false_alarms_per_week * 10.0 ** (-surprise / SURPRISE_PER_DECADE)
        )
        return (prior + observed) / (WEEK_S + self.seconds)

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("events", "series_seconds", "seconds", "groups", "time", "series")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        for name, value in state.items():
            setattr(self, name, value)
