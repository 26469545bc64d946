"""Alerts that another system sends us."""

import hashlib
from dataclasses import dataclass, field

from ulid import ULID

OWN_ALERT_NAME = "TrimtabIncident"
"""The `alertname` of what we send."""


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
    def change_id(self) -> str:
        """Of the Change that stands for it beside incidents: the same whenever the alert is told again.

        >>> Alert("c1f0", 1_767_225_600_000_000_000, None).change_id[:10]
        '01KDVDNA00'
        """
        digest = hashlib.sha256(f"{self.fingerprint} {self.start}".encode()).digest()
        return str(ULID.from_bytes(max(0, self.start // 1_000_000).to_bytes(6, "big") + digest[:10]))

    @property
    def is_own(self) -> bool:
        """Whether it is one of ours that comes back."""
        return self.labels.get("alertname") == OWN_ALERT_NAME

    @property
    def is_firing(self) -> bool:
        """Whether it goes on."""
        return self.end is None
