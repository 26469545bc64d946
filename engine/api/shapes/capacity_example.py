"""A capacity, for the examples in /api-docs."""

from trimtab.engine.api.shapes.examples import START
from trimtab.engine.types import Capacity, Estimate, LoadPath

CAPACITY = Capacity(
    name="checkout", kind="replicas", time=START, unit="req/s", load=412.0, current=5.0, ready=5.0, wanted=6,
    floor=5, ahead=6, why="forecast", problem="", confidence=0.86,
    capacity_per_replica=Estimate(120.0, 114.0, 127.0, "learnt"),
    startup_s=Estimate(180.0, 165.0, 195.0, "learnt"),
    target_utilisation=0.7, path=LoadPath((60.0, 120.0, 180.0), (430.0, 455.0, 480.0), (540.0, 610.0, 684.0),
                                          (720.0, 720.0, 720.0), 0.05),
    cost_per_day=12.0, wanted_cost_per_day=14.4, tool="pm2", target="checkout", knob="instances",
    series_ids=("3f0c2a9be1d84756a0b1c2d3e4f50617",),
)  # fmt: skip
