"""Settings `guardrails:` and `mode:`, the limits of automated actions."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field

from trimtab.engine.settings.section import Duration, Section

ModeName = Literal["off", "recommend", "approve", "auto"]
"""Values of `trimtab.engine.types.Mode`."""
Ratio = Annotated[float, Field(gt=0, le=1)]
_WILDCARD = "*"


def _normalize_modes(value: object) -> object:
    """Return the modes as strings; YAML reads a bare `off` as false."""
    if isinstance(value, Mapping):
        return {name: _normalize_modes(mode) for name, mode in value.items()}
    word = "off" if value is False else value
    if word not in get_args(ModeName):
        raise ValueError(f"mode is {word!r}; use one of {', '.join(get_args(ModeName))}")
    return word


Modes = Annotated[ModeName | dict[str, ModeName], BeforeValidator(_normalize_modes)]
"""`tools.<name>.mode:` one mode for the whole tool, or a mapping to modes.

Keys of the mapping: a knob or action (`maxmemory`), a knob or action of one target (`cache-1/maxmemory`),
all of one target (`cache-1/*`), or everything else (`*`).
"""


def mode_of(modes: ModeName | Mapping[str, ModeName], target: str, subject: str) -> ModeName:
    """Return the mode of a knob or action of one target; "recommend" if no key matches.

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
    """`guardrails:` limits of automated actions. Ratios are 0..1, durations seconds.

    >>> Guardrails(cooldown="20m").cooldown, Guardrails().running
    (1200.0, 2)
    """

    time_scale: float = Field(1.0, gt=0, le=1)
    """Factor for every duration here; below 1 it applies only to loopback targets marked `trial`."""

    fresh_intervals: float = Field(3.0, gt=0)
    """Maximum age of the newest sample, in intervals of its source."""
    window: Duration = 600.0
    window_present: Ratio = 0.9
    """Share of the samples of `window` that must be present."""
    suspicion: Duration = 21_600.0
    """How far back the data is checked for a sudden zero or a changed unit, which block actions."""
    unit_jump: float = Field(100.0, gt=1)
    """A metric that jumps by this factor in one step is assumed to have changed its unit."""
    hold: Duration = 300.0
    """A reduction goes no lower than the largest value proposed within this time."""
    dead_band: float = Field(0.1, ge=0, lt=1)
    """Smaller relative changes are not proposed."""
    evaluations: int = Field(3, ge=1)
    """Consecutive evaluations that must agree on a proposal ..."""
    persistence: Duration = 180.0
    """... and for at least this time."""

    cooldown: Duration = 900.0
    cooldown_after_rollback: Duration = 3600.0
    reversal: Duration = 1800.0
    """Reversing an action within this time needs an operator's approval."""
    reversals: int = Field(2, ge=1)
    """This many changes of direction lock a target ..."""
    lock: Duration = 21_600.0
    """... if they occur within this time, until enough of them are older than that."""

    running_per_target: int = Field(1, ge=1)
    running: int = Field(2, ge=1)
    per_hour: int = Field(6, ge=1)
    per_day: int = Field(20, ge=1)
    targets_share: Ratio = 0.1
    """Share of all targets, at least one target, that may be changed ..."""
    targets_within: Duration = 600.0
    """... within this time."""

    step: float = Field(0.25, gt=0, le=1)
    """Largest relative change of one action, for knobs that declare no step."""
    growth: float = Field(2.0, gt=1)
    """Largest factor of one action for a reversible knob that declares a step."""
    fewest_replicas: int = Field(2, ge=1)
    memory_share: Ratio = 0.85
    """Maximum ratio of the host's or the control group's memory."""

    plan_life: Duration = 300.0
    """Maximum age of a plan when it is executed."""
    approval_life: Duration = 900.0
    mass_series: Ratio = 0.3
    """Share of other series, at least `mass_series_least`, whose anomalies suspend all actions."""
    mass_series_least: int = Field(5, ge=1)
    mass_sources: Ratio = 0.45
    """Share of sources whose absence suspends all actions."""
    settle: Duration = 300.0
    """Time after a start during which no action runs."""

    watch: Duration = 600.0
    """How long a change is verified before it is kept."""
    bad_checks: int = Field(3, ge=1)
    """Consecutive failed checks that roll a change back."""
    action_timeout: Duration = 30.0
    webhook_timeout: Duration = 10.0

    warm_per_s: float = Field(10.0, gt=0)
    """Maximum requests per second for warming a cache, and ..."""
    warm_share: Ratio = 0.05
    """... as a ratio of the requests that its origin receives anyway."""
    warm_errors: Ratio = 0.01
    """Error ratio of the origin that stops the warming."""

    def scaled(self, trial: bool) -> Self:
        """Return the limits of one target: with scaled durations for a trial, unchanged otherwise.

        Requirements on samples and timeouts of calls are never scaled.

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
