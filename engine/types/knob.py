"""Knobs: settings of a tool, their readings, and applied changes."""

from dataclasses import dataclass
from enum import StrEnum

Value = bool | int | float | str | None
"""Value of a knob; None = not set."""


class KnobType(StrEnum):
    """Type of a knob's values."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    CHOICE = "choice"


class Lasts(StrEnum):
    """How long a changed value persists."""

    UNTIL_RESTART = "until restart"
    IN_A_FILE = "in a file"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting of a tool, with its bounds.

    low, high  : bounds in `unit`; None = unbounded (the engine never changes such a knob by itself)
    step       : largest change at once, in `unit`; None = 25 % of the current value (a guard rule)
    choices    : allowed values of a CHOICE
    denied     : values that are never proposed and never applied
    warm_up_s  : seconds after a change until its effect can be measured
    group      : knobs of one group influence each other; only one of them changes at a time
    grain      : proposed values are multiples of it, in `unit`; 0 = any value
    default    : value after a reset; None = unknown
    zero       : meaning of the value 0, such as "no limit"; "" = the number 0
    """

    name: str
    type: KnobType
    unit: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    denied: tuple[Value, ...] = ()
    restart_needed: bool = False
    reversible: bool = True
    warm_up_s: float = 60.0
    group: str = ""
    help: str = ""
    grain: float = 0.0
    default: Value = None
    zero: str = ""


@dataclass(frozen=True, slots=True)
class KnobReading:
    """The current value of a knob.

    set_here : whether the value was set explicitly; False = the tool's default applies, and an undo resets it
    lasts    : how long a changed value would persist
    note     : additional information, such as "10 GiB of 16 GiB are in use"
    """

    value: Value
    set_here: bool
    lasts: Lasts
    note: str = ""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change that the tool has confirmed.

    permanent : how to make the change permanent: a line of a configuration file, or a statement
    """

    before: Value
    after: Value
    lasts: Lasts
    permanent: str = ""
