"""Routes of capacity estimates, also in the formats of autoscalers."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.shapes.examples import CAPACITY
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response
from trimtab.engine.api.shapes.loop_shapes import example_response, make_shape, record_json
from trimtab.engine.errors import NotFoundError
from trimtab.engine.types import Capacity

router = APIRouter(prefix="/api/capacity", tags=["capacity"])
CapacityShape = make_shape(Capacity)
Name = Annotated[str, Path(min_length=1, max_length=200, description="Name in the settings.")]


class CapacityPage(JsonShape):
    """All capacity estimates, by name."""

    items: list[CapacityShape]  # type: ignore[valid-type]  # derived from the dataclass


class WantedNow(JsonShape):
    """For KEDA: `valueLocation: wanted`, `targetValue: "1"`."""

    name: str
    wanted: int = Field(description="Never 0 when unknown; the response is a 503 then.")


_EXAMPLE = record_json(CAPACITY)


@router.get("", summary="List capacity", responses=example_response(CapacityPage, {"items": [_EXAMPLE]}))
async def list_capacity(loop: LoopPortsDep) -> Response:
    """Needed capacity of each scaled resource; `wanted` is null if unknown, and `problem` says why.

    `/api/metrics` exports it as `trimtab_capacity_wanted_replicas{name="..."}`, without a sample while it is
    unknown. With Prometheus and prometheus-adapter, an HPA can use it as an external metric:

    ```yaml
    externalRules:                       # of prometheus-adapter
    - seriesQuery: trimtab_capacity_wanted_replicas
      metricsQuery: max(<<.Series>>{<<.LabelMatchers>>})
      resources: {namespaced: false}
    ---
    metrics:                             # of a HorizontalPodAutoscaler (autoscaling/v2)
    - type: External
      external:
        metric: {name: trimtab_capacity_wanted_replicas, selector: {matchLabels: {name: checkout}}}
        target: {type: AverageValue, averageValue: "1"}
    ```
    """
    return json_response({"items": [record_json(loop.capacity[name]) for name in sorted(loop.capacity)]})


@router.get("/{name}", summary="One capacity", responses=example_response(CapacityShape, _EXAMPLE))
async def one_capacity(loop: LoopPortsDep, name: Name) -> Response:
    """Needed capacity with its reason, and the forecast load with the load that it can serve."""
    return json_response(record_json(_find_capacity(loop, name)))


@router.get(
    "/{name}/keda", summary="One capacity, for KEDA's metrics-api scaler",
    responses=example_response(WantedNow, {"name": "checkout", "wanted": 6}),
)  # fmt: skip
async def wanted_now(loop: LoopPortsDep, name: Name) -> Response:
    """Wanted count, or a 503 if it is unknown, so that the autoscaler changes nothing.

    ```yaml
    triggers:                            # of a KEDA ScaledObject
    - type: metrics-api
      metadata:
        url: https://trimtab.example/api/capacity/checkout/keda
        valueLocation: wanted
        targetValue: "1"
        authMode: bearer
      authenticationRef: {name: trimtab}   # a TriggerAuthentication with a key of the scope `read` as `token`
    ```
    """
    found = _find_capacity(loop, name)
    if found.wanted is None:
        raise ProblemError(
            503, f"{name}: {found.problem or 'its capacity is not known yet'}", {"Retry-After": "15"}
        )
    return json_response({"name": name, "wanted": found.wanted})


def _find_capacity(loop: LoopPorts, name: str) -> Capacity:
    if name not in loop.capacity:
        raise NotFoundError(f"there is no capacity {name!r}; GET /api/capacity lists all")
    return loop.capacity[name]
