"""What automated actions may do at most, and how far the engine may go on its own."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field

from trimtab.engine.settings.section import Duration, Section

ModeName = Literal["off", "recommend", "approve", "auto"]
"""The values of `trimtab.engine.types.Mode`."""
Ratio = Annotated[float, Field(gt=0, le=1)]
_WILDCARD = "*"


def _normalize_modes(value: object) -> object:
    """The modes as words: YAML reads a bare `off` as false."""
    if isinstance(value, Mapping):
        return {name: _normalize_modes(mode) for name, mode in value.items()}
    word = "off" if value is False else value
    if word not in get_args(ModeName):
        raise ValueError(f"a mode is one of {', '.join(get_args(ModeName))}, not {word!r}")
    return word


Modes = Annotated[ModeName | dict[str, ModeName], BeforeValidator(_normalize_modes)]
"""`tools.<name>.mode:` one mode for all that a tool can do, or a mode by what is done and where.

Keys of the mapping: a knob or action (`maxmemory`), that of one target only (`cache-1/maxmemory`), all of a
target (`cache-1/*`), everything else (`*`).
"""


def mode_of(modes: ModeName | Mapping[str, ModeName], target: str, subject: str) -> ModeName:
    """The mode that holds for one knob or action of one target; what is not named is only recommended.

    >>> mode_of({"maxmemory": "auto", "cache-2/*": "off", "*": "approve"}, "cache-1", "maxmemory")
    'auto'
    >>> mode_of({"maxmemory": "auto", "cache-2/*": "off", "*": "approve"}, "cache-2", "maxmemory")
    'off'
    >>> mode_of("approve", "cache-1", "hz"), mode_of({"maxmemory": "auto"}, "cache-1", "hz")
    ('approve', 'recommend')
    """
    if isinstance(modes, str):
        return modes
    nearest_first = (f"{target}/{subject}", f"{target}/{_WILDCARD}", subject, _WILDCARD)
    found: ModeName = next((modes[key] for key in nearest_first if key in modes), "recommend")
    return found


class Guardrails(Section):
    """`guardrails:` limits of automated actions. Shares are 0..1, durations seconds.

    >>> Guardrails(cooldown="20m").cooldown, Guardrails().running
    (1200.0, 2)
    """

    time_scale: float = Field(1.0, gt=0, le=1)
    """Of every duration here; below 1 it counts for loopback targets labelled `trial` only."""

    fresh_intervals: float = Field(3.0, gt=0)
    """How old the newest sample may be, in intervals of its source."""
    window: Duration = 600.0
    window_present: Ratio = 0.9
    """Share of the samples of `window` that must be there."""
    suspicion: Duration = 21_600.0
    """How far back a sudden zero or a changed unit is looked for, and so for how long it is held against."""
    unit_jump: float = Field(100.0, gt=1)
    """A figure that jumps by this factor in one step has changed its unit."""
    hold: Duration = 300.0
    """A reduction goes no lower than the most that was asked for within this time."""
    dead_band: float = Field(0.1, ge=0, lt=1)
    """Smaller changes are not worth one."""
    evaluations: int = Field(3, ge=1)
    """In a row that must come to the same proposal ..."""
    persistence: Duration = 180.0
    """... and for how long."""

    cooldown: Duration = 900.0
    cooldown_after_rollback: Duration = 3600.0
    reversal: Duration = 1800.0
    """The opposite of what was done within this time needs a person."""
    reversals: int = Field(2, ge=1)
    """So many changes of direction lock a target ..."""
    lock: Duration = 21_600.0
    """... when they fall within this time."""

    running_per_target: int = Field(1, ge=1)
    running: int = Field(2, ge=1)
    per_hour: int = Field(6, ge=1)
    per_day: int = Field(20, ge=1)
    targets_share: Ratio = 0.1
    """Share of all targets, at least one, that may be touched ..."""
    targets_within: Duration = 600.0
    """... within this time."""

    step: float = Field(0.25, gt=0, le=1)
    """Largest change at once, as a share of the value, where a knob declares none."""
    growth: float = Field(2.0, gt=1)
    """Largest factor at once of a knob with a step of its own that can be made smaller again."""
    fewest_replicas: int = Field(2, ge=1)
    memory_share: Ratio = 0.85
    """Of the host's or the control group's memory."""

    plan_life: Duration = 300.0
    """How old a plan may be when it is carried out."""
    approval_life: Duration = 900.0
    mass_series: Ratio = 0.3
    """Share of the series elsewhere, at least `mass_series_least`, whose anomaly suspends all actions."""
    mass_series_least: int = Field(5, ge=1)
    mass_sources: Ratio = 0.45
    """Share of sources whose absence suspends all actions."""
    settle: Duration = 300.0
    """After a start nothing is done for so long."""

    watch: Duration = 600.0
    """How long a change is watched before it is kept."""
    bad_checks: int = Field(3, ge=1)
    """In a row that roll a change back."""
    action_timeout: Duration = 30.0
    webhook_timeout: Duration = 10.0

    warm_per_s: float = Field(10.0, gt=0)
    """Requests per second with which a cache is warmed at most, and ..."""
    warm_share: Ratio = 0.05
    """... as a share of the requests that its origin gets anyway."""
    warm_errors: Ratio = 0.01
    """Share of errors at the origin that ends the warming."""

    def scaled(self, trial: bool) -> Self:
        """The limits of one target: for a trial with every duration scaled, else with a scale of 1.

        What is asked of samples, and time limits of calls, stay as they are: a trial's are no faster.

        >>> Guardrails(time_scale=0.1).scaled(trial=True).cooldown
        90.0
        >>> Guardrails(time_scale=0.1).scaled(trial=False).time_scale
        1.0
        """
        scale = self.time_scale if trial else 1.0
        durations = {name: getattr(self, name) * scale for name in _SCALED_DURATIONS}
        return self.model_copy(update={**durations, "time_scale": scale})


_SCALED_DURATIONS = (
    "hold", "persistence", "cooldown", "cooldown_after_rollback", "reversal", "lock", "targets_within",
    "plan_life", "approval_life", "settle", "watch",
)  # fmt: skip
