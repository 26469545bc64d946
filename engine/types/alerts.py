"""Alerts that another system sends us."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of an Alertmanager, as its webhook (version 4) tells it.

    fingerprint : the sender's own identity of it, the same over repetitions
    start, end  : int64 ns; end is None while it fires
    labels      : of the alert, `alertname` among them
    url         : where the sender shows it
    """

    fingerprint: str
    start: int
    end: int | None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    url: str = ""

    @property
    def firing(self) -> bool:
        """Whether it goes on."""
        return self.end is None
