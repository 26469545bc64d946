"""Settings `capacity:`, services that are scaled with their load, by name."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from trimtab.engine.settings.section import Duration, Section, seconds
from trimtab.engine.types.selector import Selector

Auto = Literal["auto"]


def _parse_startup(value: object) -> object:
    return value if value == "auto" else seconds(value)


class CapacityOf(Section):
    """One service, pool or cache whose size follows its load. Names follow KEDA and the Kubernetes HPA.

    load          : selector of the series whose sum is the load, in any unit
    replicas      : selector of the series whose sum is the number of running and starting replicas
    ready         : selector of the series whose sum is the number of ready replicas; None = all are ready
    utilisation   : selector of series, ratio 0..1, from which `capacity_per_replica: auto` is learned
    kind          : what is counted: replicas, workers, connections, bytes
    startup       : seconds until a new replica serves; auto = measured
    metric_lag    : age of a load sample when it becomes visible, seconds
    risk          : accepted probability that the future load exceeds the capacity; auto = by startup time
    tool, target, knob : what a recommendation changes; without a tool there are only metrics
    """

    load: str
    replicas: str
    ready: str | None = None
    utilisation: str | None = None
    kind: str = Field("replicas", min_length=1, max_length=60)
    capacity_per_replica: Auto | Annotated[float, Field(gt=0)] = "auto"
    startup: Annotated[Auto | Annotated[float, Field(gt=0, le=3600)], BeforeValidator(_parse_startup)] = (
        "auto"
    )
    target_utilisation: float = Field(0.7, gt=0, le=1)
    min_replicas: int = Field(2, ge=1)
    max_replicas: int = Field(ge=1)
    risk: Auto | Annotated[float, Field(gt=0, lt=0.5)] = "auto"
    interval: Duration = Field(15.0, ge=1, le=300)
    metric_lag: Duration = 60.0
    cost_per_replica_hour: float | None = Field(None, ge=0)
    tool: str | None = None
    target: str | None = None
    knob: str | None = None

    @field_validator("load", "replicas", "ready", "utilisation")
    @classmethod
    def _validate_selectors(cls, value: str | None) -> str | None:
        if value is not None:
            Selector.parse(value)
        return value

    @model_validator(mode="after")
    def _validate_consistency(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}; raise it"
            )
        if (self.tool is None) != (self.knob is None):
            raise ValueError("tool and knob belong together; set both or neither")
        if self.capacity_per_replica == "auto" and self.utilisation is None:
            raise ValueError(
                "capacity_per_replica is auto, learned from utilisation; set utilisation (a selector "
                "of series with ratios 0..1), or set capacity_per_replica to a number"
            )
        return self


Capacities = dict[str, CapacityOf]
