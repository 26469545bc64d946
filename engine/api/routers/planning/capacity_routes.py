"""What is scaled with its load: what it needs now and why; also as an autoscaler asks for it."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.shapes.capacity_example import CAPACITY
from trimtab.engine.api.shapes.json_shapes import JsonShape, json_response
from trimtab.engine.api.shapes.loop_shapes import example_response, make_shape, record_json
from trimtab.engine.errors import NotFoundError
from trimtab.engine.types import Capacity

router = APIRouter(prefix="/api/capacity", tags=["capacity"])
CapacityShape = make_shape(Capacity)
Name = Annotated[str, Path(min_length=1, max_length=200, description="As in the settings.")]


class CapacityPage(JsonShape):
    """All of them, by name."""

    items: list[CapacityShape]  # type: ignore[valid-type]  # made from the noun


class WantedNow(JsonShape):
    """For a scaler: `valueLocation: wanted`, `targetValue: "1"`."""

    name: str
    wanted: int = Field(description="Never 0 for lack of knowledge: then the answer is a 503.")


_EXAMPLE = record_json(CAPACITY)


@router.get(
    "", summary="List what is scaled", responses=example_response(CapacityPage, {"items": [_EXAMPLE]})
)
async def list_capacity(loop: LoopPortsDep) -> Response:
    """What each needs now; `wanted` is null where that is unknown, and `problem` says why.

    `/api/metrics` has it as `trimtab_capacity_wanted_replicas{name="..."}`, without a sample while it is
    unknown. A Prometheus that scrapes it, with its adapter, gives it to an HPA as an external
    metric:

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


@router.get("/{name}", summary="What one needs", responses=example_response(CapacityShape, _EXAMPLE))
async def one_capacity(loop: LoopPortsDep, name: Name) -> Response:
    """What it needs now and why, with the load ahead beside what would serve it."""
    return json_response(record_json(_find_capacity(loop, name)))


@router.get(
    "/{name}/keda", summary="What one needs, for KEDA's metrics-api scaler",
    responses=example_response(WantedNow, {"name": "checkout", "wanted": 6}),
)  # fmt: skip
async def wanted_now(loop: LoopPortsDep, name: Name) -> Response:
    """A number, or an error where it is unknown: an autoscaler changes nothing then, a 0 would empty it.

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
        raise ProblemError(503, f"{name}: {found.problem or 'it is not known yet'}", {"Retry-After": "15"})
    return json_response({"name": name, "wanted": found.wanted})


def _find_capacity(loop: LoopPorts, name: str) -> Capacity:
    if name not in loop.capacity:
        raise NotFoundError(f"there is no capacity {name!r}; GET /api/capacity lists those there are")
    return loop.capacity[name]
