"""Service description: models of what a service declares over HTTP, parsed strictly without guessing."""

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
    """A knob as returned by `GET knobs/NAME`. Unknown fields are ignored."""

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
            raise ValueError(f"{self.name} is of type {self.type}, which takes no low and high")
        if self.value is not None and not is_of_type(self.value, self.type):
            raise ValueError(f"{self.name} is of type {self.type}, but its value is {self.value!r:.80}")
        return self

    def to_knob(self) -> Knob:
        """Return the knob of the tool port."""
        return Knob(
            self.name, self.type, self.unit, self.low, self.high, self.step, self.choices,
            restart_needed=self.restart_needed, reversible=self.reversible, warm_up_s=self.warm_up_s,
            group=self.group, help=self.help,
        )  # fmt: skip

    def to_reading(self) -> KnobReading:
        """Return the current value as a reading of the tool port."""
        return KnobReading(self.value, self.set, self.lasts)

    def refusal(self, value: Value) -> str:
        """Return why a value is not allowed; "" when it is."""
        if not is_of_type(value, self.type):
            return f"must be of type {self.type}, not {value!r:.80}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, not {value!r:.80}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be a finite number, not {value}"
        if self.low is not None and value < self.low:  # type: ignore[operator]  # only numbers have bounds
            return f"must be at least {self.low:g} {self.unit}, not {value!r:.80}"
        if self.high is not None and value > self.high:  # type: ignore[operator]  # as above
            return f"must be at most {self.high:g} {self.unit}, not {value!r:.80}"
        return ""


class ActionDescription(BaseModel):
    """An action of a service; missing risk fields get the more dangerous default."""

    name: str
    help: str = ""
    risk: Risk = Risk.MEDIUM
    reduces: bool = True
    idempotent: bool = False

    def to_action(self) -> ToolAction:
        """Return the action of the tool port."""
        return ToolAction(self.name, self.help, self.risk, self.reduces, self.idempotent)


class ServiceDescription(BaseModel):
    """The service as returned by `GET /`."""

    service: str
    version: str = ""
    knobs: tuple[KnobDescription, ...] = ()
    actions: tuple[ActionDescription, ...] = ()


def is_of_type(value: Value, kind: KnobType) -> bool:
    """Return whether a value has a knob's type.

    >>> is_of_type(1, KnobType.FLOAT), is_of_type(True, KnobType.INT), is_of_type("x", KnobType.CHOICE)
    (True, False, True)
    """
    return isinstance(value, _PYTHON_TYPES[kind]) and (kind is KnobType.BOOL) == isinstance(value, bool)


def parse_metrics(body: bytes, content_type: str) -> dict[str, float]:
    """Parse Prometheus text, or one flat JSON object of numbers, into metrics by name. Raises ValueError.

    Histogram buckets, creation times and non-finite values are left out.

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
        raise ValueError(f"there are {len(found)} metrics, more than {MAX_SAMPLES}")
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _parse_json_metrics(data: Any) -> dict[str, float]:  # noqa: ANN401 - JSON
    if not isinstance(data, dict):
        raise ValueError("the body is not a JSON object")
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
    """Return a series name in Prometheus notation.

    >>> format_series_name("up", {"job": "a"}), format_series_name("up", {})
    ('up{job="a"}', 'up')
    """
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
