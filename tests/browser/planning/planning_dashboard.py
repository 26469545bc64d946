"""A dashboard with a forecast load, two capacity targets and the model behind the forecast."""

import math
from dataclasses import replace

import numpy as np

from tests.browser.control_loop_dashboard import HOUR, ControlLoopDashboard, ulid
from tests.browser.dashboard_server import MINUTE, STEP, now_ns
from tests.builders.series import tick_scores
from tests.fakes.fake_models import FakeModelService
from trimtab.engine.api.shapes.examples import CAPACITY, FORECAST, MODEL, PIPELINE_RUN, RECOMMENDATION
from trimtab.engine.types import (
    Estimate,
    LoadPath,
    ModelVersion,
    PastForecast,
    RunState,
    SeriesKey,
)

LOAD = SeriesKey.of("prometheus", "http_requests_per_second", {"service": "checkout"})
ADVICE = ulid(90)
ROW = 5 * MINUTE
SPREAD = {"0.05": -26.0, "0.5": 0.0, "0.9": 21.0, "0.95": 29.0, "0.99": 47.0}


def level(time_ns: int) -> float:
    """Return the load in requests/s: a sine around 120 with a period of four hours."""
    return 120.0 + 40.0 * math.sin(2 * math.pi * (time_ns % (4 * HOUR)) / (4 * HOUR))


class PlanningDashboard(ControlLoopDashboard):
    """A dashboard server with the control loop, forecasts, capacity and models."""

    @property
    def model_service(self) -> FakeModelService:
        """Return the fake model service."""
        assert self.control_loop.models is not None
        return self.control_loop.models

    def seed(self) -> None:
        """Add a load with history and forecast, two capacity targets, four versions and four runs."""
        super().seed()
        self._seed_load()
        self._seed_models()
        self._seed_capacity()

    def _seed_load(self) -> None:
        now = now_ns()
        for ago in range(720, 0, -1):
            t = now - ago * STEP
            value = level(t) + 3.0 * math.sin(ago * 1.7)
            columns = {"anomaly_score": [0.2], "yhat": [level(t)], "yhat_lower": [level(t) - 14],
                       "yhat_upper": [level(t) + 14]}  # fmt: skip
            self.score_log.append([LOAD], tick_scores(LOAD.source, t, [value], **columns))
        self.add_series(
            LOAD, unit="1/s", value=level(now), yhat=level(now), yhat_lower=level(now) - 14,
            yhat_upper=level(now) + 14,
        )  # fmt: skip
        made = now - 2 * MINUTE
        times = made + ROW * np.arange(1, 289)
        grow = np.linspace(0.6, 1.6, 288)
        middle = np.array([level(int(t)) for t in times])
        values = {quantile: middle + grow * off for quantile, off in SPREAD.items()}
        self.model_service.current_forecasts = [
            replace(FORECAST, id=LOAD.id, series=str(LOAD), made=made, start=made + ROW, values=values)
        ]
        past = made - ROW * np.arange(11, -1, -1)
        was = np.array([level(int(t)) for t in past]) + 6.0
        kept = {quantile: was + SPREAD[quantile] for quantile in ("0.05", "0.5", "0.95")}
        kept["0.95"][0] = kept["0.5"][0] = was[0] - 24.0
        self.model_service.past_forecasts = {LOAD.id: PastForecast(LOAD.id, 3600.0, past, kept)}

    def _seed_models(self) -> None:
        now, models = now_ns(), self.model_service
        models.calls.clear()
        models.has_previous = True
        judged = {
            "challenger.pinball": 0.262, "challenger.mase": 0.61, "challenger.cov90": 0.897,
            "challenger.miss99": 0.014, "challenger.silent": 0.0, "challenger.points": 21_312.0,
            "champion.pinball": 0.281, "champion.mase": 0.66, "champion.cov90": 0.91,
            "champion.miss99": 0.009, "champion.silent": 0.0, "champion.points": 21_312.0,
            "seasonal_naive.pinball": 0.52, "seasonal_naive.mase": 1.0, "seasonal_naive.cov90": 0.93,
            "seasonal_naive.miss99": 0.02, "seasonal_naive.silent": 0.0, "seasonal_naive.points": 21_312.0,
        }  # fmt: skip
        version = ModelVersion(
            "4", "champion", "arrays", "load", now - 26 * HOUR, now - 27 * HOUR, 48_211,
            {name: figure for name, figure in judged.items() if not name.startswith("champion.")}, 0.29,
            "passed the gate",
        )  # fmt: skip
        models.view = replace(
            MODEL, serving="4", made=now - 2 * MINUTE, series=37, error=0.29, problem="",
            versions=(
                replace(
                    version, version="5", role="challenger", stored=now - HOUR, trained_until=now - HOUR,
                    figures=judged, live=0.27,
                ),
                version,
                replace(version, version="3", role="previous", stored=now - 50 * HOUR, live=None),
                replace(
                    version, version="2", role="", kind="skops", forecaster="submitted", live=None,
                    stored=now - 60 * HOUR, trained_until=None, figures={},
                    said="refused: its loss is 0.61, that of the champion 0.28: more than 1.02 times as much",
                ),
            ),
            refused={"6": "6: has no manifest.json, but ['model.pkl']"},
        )  # fmt: skip
        done = replace(PIPELINE_RUN, started=now - 2 * HOUR, ended=now - 2 * HOUR + 4 * MINUTE)
        models.finished_runs = [
            replace(
                done, id=ulid(99), state=RunState.RUNNING, by="anna", started=now - MINUTE, ended=None,
                stage="judge", progress=0.42, said="",
            ),
            replace(done, id=ulid(98), said="version 5 runs beside the champion for a while"),
            replace(done, id=ulid(97), state=RunState.FAILED, by="drift", said="Prometheus does not answer"),
            replace(done, id=ulid(96), state=RunState.INTERRUPTED, ended=None, said=""),
        ]  # fmt: skip

    def _seed_capacity(self) -> None:
        now = now_ns()
        self.control_loop.capacity.clear()
        checkout = replace(
            CAPACITY, time=now, load_id=LOAD.id,
            path=LoadPath(
                (60.0, 120.0, 180.0), (430.0, 455.0, 480.0), (540.0, 610.0, 684.0), (720.0,) * 3, 0.027
            ),
        )  # fmt: skip
        pool = replace(
            CAPACITY, name="orders pool", kind="connections", time=now, unit="1/s", load=None, current=40.0,
            ready=40.0, wanted=None, floor=None, ahead=None, why="unknown", path=None, tool="",
            problem='no live series is selected by load pg_queries{pool="orders"}', confidence=0.5,
            capacity_per_replica=None, startup_s=Estimate(180.0, 180.0, 180.0, "assumed"), cost_per_day=None,
            wanted_cost_per_day=None, load_id="", series_ids=(),
        )  # fmt: skip
        self.control_loop.capacity.update({"checkout": checkout, "orders pool": pool})
        self.control_loop.ledger.recommendations_by_id[ADVICE] = replace(
            RECOMMENDATION, id=ADVICE, tool="pm2", target="checkout", subject="instances", before=5, after=6,
            title="Give checkout 6 replicas before the load is there", incident_id=None, effect=None,
            created=now, expires=now + 15 * MINUTE, shadow=None,
            pattern="", command="pm2 scale checkout 6",
        )  # fmt: skip
