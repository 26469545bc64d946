"""What a service tells of itself over HTTP, read strictly: what does not fit is an error, never a guess."""

import math
from collections.abc import Mapping
from typing import Any, Self

import orjson
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Risk, ToolAction, Value

MAX_SAMPLES = 5_000
_PYTHON_TYPES: dict[KnobType, tuple[type, ...]] = {
    KnobType.INT: (int,), KnobType.FLOAT: (int, float), KnobType.BOOL: (bool,), KnobType.CHOICE: (str,),
}  # fmt: skip


class KnobDescription(BaseModel):
    """A knob as `GET knobs/NAME` shows it. Unknown fields are left aside."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: str
    type: KnobType
    value: StrictBool | StrictInt | StrictFloat | StrictStr | None
    set: bool = True
    unit: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    restart_needed: bool = False
    reversible: bool = True
    warm_up_s: float = 60.0
    group: str = ""
    help: str = ""
    lasts: Lasts = Lasts.UNKNOWN
    permanent: str = ""

    @model_validator(mode="after")
    def _check_value_type(self) -> Self:
        if self.type in {KnobType.BOOL, KnobType.CHOICE} and (self.low, self.high) != (None, None):
            raise ValueError(f"{self.name} is of type {self.type}, which has no low and high")
        if self.value is not None and not is_of_type(self.value, self.type):
            raise ValueError(f"{self.name} is of type {self.type}, but its value is {self.value!r:.80}")
        return self

    def to_knob(self) -> Knob:
        """As the engine knows it."""
        return Knob(
            self.name, self.type, self.unit, self.low, self.high, self.step, self.choices,
            restart_needed=self.restart_needed, reversible=self.reversible, warm_up_s=self.warm_up_s,
            group=self.group, help=self.help,
        )  # fmt: skip

    def to_reading(self) -> KnobReading:
        """Its value now."""
        return KnobReading(self.value, self.set, self.lasts)

    def refusal(self, value: Value) -> str:
        """Why this value is not allowed; "" = it is."""
        if not is_of_type(value, self.type):
            return f"is of type {self.type}, not {value!r:.80}"
        if self.choices and value not in self.choices:
            return f"is one of {', '.join(self.choices)}, not {value!r:.80}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"is a finite number, not {value}"
        if self.low is not None and value < self.low:  # type: ignore[operator]  # only numbers have bounds
            return f"is at least {self.low:g} {self.unit}, not {value!r:.80}"
        if self.high is not None and value > self.high:  # type: ignore[operator]  # as above
            return f"is at most {self.high:g} {self.unit}, not {value!r:.80}"
        return ""


class ActionDescription(BaseModel):
    """An action as a service shows it; what it does not say of the risk is taken as the worse."""

    name: str
    help: str = ""
    risk: Risk = Risk.MEDIUM
    reduces: bool = True
    idempotent: bool = False

    def to_action(self) -> ToolAction:
        """As the engine knows it."""
        return ToolAction(self.name, self.help, self.risk, self.reduces, self.idempotent)


class ServiceDescription(BaseModel):
    """What `GET /` gives."""

    service: str
    version: str = ""
    knobs: tuple[KnobDescription, ...] = ()
    actions: tuple[ActionDescription, ...] = ()


def is_of_type(value: Value, kind: KnobType) -> bool:
    """Whether a value is of a knob's type.

    >>> is_of_type(1, KnobType.FLOAT), is_of_type(True, KnobType.INT), is_of_type("x", KnobType.CHOICE)
    (True, False, True)
    """
    return isinstance(value, _PYTHON_TYPES[kind]) and (kind is KnobType.BOOL) == isinstance(value, bool)


def parse_metrics(body: bytes, content_type: str) -> dict[str, float]:
    """Figures by name: Prometheus text, or one flat JSON object of numbers. Raises ValueError.

    Buckets, times of creation, and what is no finite number are left out.

    >>> parse_metrics(b'hits_total{cache="a"} 3', "text/plain")
    {'hits_total{cache="a"}': 3.0}
    >>> parse_metrics(b'{"rss_bytes": 5, "name": "shop"}', "application/json")
    {'rss_bytes': 5.0}
    """
    if content_type.partition(";")[0].strip().lower() == "application/json":
        found = _parse_json_metrics(orjson.loads(body))
    else:
        found = _parse_prometheus_metrics(body.decode())
    if len(found) > MAX_SAMPLES:
        raise ValueError(f"it has {len(found)} figures, more than {MAX_SAMPLES}")
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _parse_json_metrics(data: Any) -> dict[str, float]:  # noqa: ANN401 - JSON
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    numbers = {name: v for name, v in data.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {name: float(value) for name, value in numbers.items()}


def _parse_prometheus_metrics(text: str) -> dict[str, float]:
    return {
        format_series_name(sample.name, sample.labels): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def format_series_name(name: str, labels: Mapping[str, str]) -> str:
    """A name as Prometheus writes it.

    >>> format_series_name("up", {"job": "a"}), format_series_name("up", {})
    ('up{job="a"}', 'up')
    """
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
