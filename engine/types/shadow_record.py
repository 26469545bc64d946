"""What the engine would have done had it been let, and what happened without it."""

from dataclasses import dataclass
from enum import StrEnum

Value = bool | int | float | str | None
"""Of a knob; None = it is not set."""


MIN_SEVERITY_INCREASE = 0.1
"""A severity that rises by so much is worse."""


class ShadowEnd(StrEnum):
    """How what was not done came to its end."""

    OPEN = ""
    OVER = "over"
    """What it was recommended for ended by itself."""
    DONE = "done"
    """People had it done after all."""
    CHANGED = "changed"
    """Something else was done on the target, so nobody knows what would have become of it."""
    WENT_ON = "went on"
    """A day later it still went on."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A change that mode auto would have made, and what happened without it.

    time          : int64 ns from when no guardrail stood in the way
    before, after : the change as it would have been made
    figure, unit  : what it was to mend; "" = no series shows it
    figure_before : its value when it would have been done; figure_since : its mean from then until `ended`;
                    None = unknown
    severity      : of the incident when it would have been done; worst : the largest since;
                    None = there is no incident
    ended         : int64 ns; None = it goes on
    """

    time: int
    before: Value
    after: Value
    figure: str = ""
    unit: str = ""
    figure_before: float | None = None
    figure_since: float | None = None
    severity: float | None = None
    worst: float | None = None
    ended: int | None = None
    end: ShadowEnd = ShadowEnd.OPEN

    @property
    def got_worse(self) -> bool:
        """Whether the incident became clearly worse after it would have been done."""
        return self.worst is not None and self.worst >= (self.severity or 0.0) + MIN_SEVERITY_INCREASE
