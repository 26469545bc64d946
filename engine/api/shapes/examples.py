"""Example values of each type, for the OpenAPI document."""

import numpy as np

from trimtab.engine.ports import TargetView, ToolView
from trimtab.engine.types import (
    Action,
    ActionState,
    AuditRow,
    Capacity,
    Change,
    ChangeKind,
    Effect,
    Estimate,
    Forecast,
    Incident,
    IncidentState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    LoadPath,
    Mode,
    ModelVersion,
    ModelView,
    Outcome,
    PastForecast,
    PatternMatch,
    Pause,
    PipelineRun,
    Recommendation,
    RecommendationState,
    Risk,
    RunState,
    Severity,
    Shadow,
    ShadowEnd,
    Silence,
    Suspect,
    ToolAction,
    ToolState,
    ToolStatus,
)

START = 1_767_225_600_000_000_000
_MINUTE = 60_000_000_000
_ID = "01JGFJJZ00" + "0" * 15
_SERIES = "3f0c2a9be1d84756a0b1c2d3e4f50617"

CHANGE = Change(
    f"{_ID}1", START - 4 * _MINUTE, ChangeKind.DEPLOY, "checkout 2.14.0", "ci", {"service": "checkout"},
    "https://ci.example/builds/812",
)  # fmt: skip
INCIDENT = Incident(
    id=f"{_ID}2", start=START, end=None, state=IncidentState.OPEN,
    title="redis/cache-1: keys are evicted before they are read again", severity=0.62, level=Severity.HIGH,
    user_facing=True, mass=False, entities=("redis/cache-1", "checkout"),
    anomaly_ids=("01JGFJJZ" + "0" * 18,),
    suspects=(
        Suspect(
            _SERIES, 'redis_hit_ratio{instance="cache-1"}', "redis/cache-1", 0.71, START, 6.2,
            "moved first, 40 s before the latency of checkout",
        ),
    ),
    patterns=(
        PatternMatch(
            "cache_thrash", "redis/cache-1", 0.93, START,
            ("hit ratio fell from 98 % to 61 %", "420 keys/s are evicted, memory is at its maximum"),
            (_SERIES,), ("redis.maxmemory",),
        ),
    ),
    change_ids=(CHANGE.id,),
)  # fmt: skip
EFFECT = Effect(_SERIES, "hit ratio of cache-1", "ratio", 0.61, 0.96, 0.91, 0.98)
MEASURED_EFFECT = Effect(_SERIES, "hit ratio of cache-1", "ratio", 0.61, 0.95, 0.94, 0.96)
RECOMMENDATION = Recommendation(
    id=f"{_ID}3", created=START + 2 * _MINUTE, expires=START + 17 * _MINUTE, tool="redis", target="cache-1",
    subject="maxmemory", is_action=False, before=268_435_456, after=335_544_320,
    title="Give cache-1 more memory", effect=EFFECT,
    evidence=("420 keys/s are evicted while 2.1 GiB of the host are free",), confidence=0.86, risk=Risk.LOW,
    cost="64 MiB of memory", disproof="the hit ratio stays under 0.9 for 10 minutes after the change",
    mode=Mode.APPROVE, fingerprint="redis/cache-1/maxmemory/up", state=RecommendationState.PENDING,
    incident_id=INCIDENT.id, pattern="cache_thrash",
    command="redis-cli -h cache-1 CONFIG SET maxmemory 335544320",
    shadow=Shadow(
        START + 5 * _MINUTE, 268_435_456, 335_544_320, "hit ratio of cache-1", "ratio", 0.61, 0.71,
        0.62, 0.62, START + 23 * _MINUTE, ShadowEnd.OVER,
    ),
)  # fmt: skip
ACTION = Action(
    id=f"{_ID}4", key="9f2c", recommendation_id=RECOMMENDATION.id, tool="redis", target="cache-1",
    subject="maxmemory", is_action=False, before=268_435_456, after=335_544_320, set_before=True,
    state=ActionState.KEPT, mode=Mode.APPROVE, by="anna", created=START + 3 * _MINUTE,
    started=START + 3 * _MINUTE, ended=START + 13 * _MINUTE, told="lasts until restart",
    outcome=Outcome(ActionState.KEPT, "no harm seen", MEASURED_EFFECT),
)  # fmt: skip
AUDIT_ROW = AuditRow(
    12, START + 3 * _MINUTE, "anna", "recommendation approved", RECOMMENDATION.id, {"tool": "redis"},
    "0" * 64,
    "9c1185a5c5e9fc54612808977ee8f548b2258d31" + "0" * 24,
)  # fmt: skip
SILENCE = Silence(f"{_ID}5", ("redis/*",), START, START + 120 * _MINUTE, "anna", "moving the database")
PAUSE = Pause(on=True, by="anna", since=START, reason="moving the database")
KNOB = Knob(
    "maxmemory", KnobType.INT, "B", 67_108_864.0, 2_147_483_648.0, group="redis/cache-1",
    help="Above this much keys are evicted.", default=0, zero="no limit",
)  # fmt: skip
KNOB_READING = KnobReading(268_435_456, set_here=True, lasts=Lasts.UNTIL_RESTART)
TOOL = ToolView(
    "redis", "redis", enabled=True, trial=False, status=ToolStatus(ToolState.UP, "", "7.0.15"),
    modes={"*": Mode.RECOMMEND, "maxmemory": Mode.APPROVE}, targets=("cache-1",),
)  # fmt: skip
TOOL_ACTION = ToolAction("warm_keys", "Read the hottest keys once, slowly.", Risk.LOW, idempotent=True)
TARGET = TargetView(
    "redis", "cache-1", {"redis_hit_ratio": 0.61, "redis_memory_used_bytes": 268_201_984.0},
    ((KNOB, KNOB_READING),), (TOOL_ACTION,),
)  # fmt: skip
FORECAST = Forecast(
    _SERIES, 'http_requests_total{job="checkout"}', "prometheus", "1/s", START, START + 5 * _MINUTE, 300.0,
    {"0.05": np.array([90.0, 91.0]), "0.5": np.array([120.0, 122.5]), "0.99": np.array([180.0, 183.0])},
    "load", "4", "good", 14 * 86_400.0,
)  # fmt: skip
PAST_FORECAST = PastForecast(
    _SERIES, 3600.0, np.array([START - 5 * _MINUTE, START]),
    {"0.05": np.array([88.0, 90.0]), "0.5": np.array([118.0, 121.0]), "0.95": np.array([150.0, 154.0])},
)  # fmt: skip
_FIGURES = {"challenger.pinball": 0.31, "champion.pinball": 0.33, "seasonal_naive.pinball": 0.52}
MODEL = ModelView(
    "load", "4", START, 37, 0.29,
    (
        ModelVersion(
            "4", "champion", "arrays", "load", START - 60 * _MINUTE, START - 65 * _MINUTE, 48_211, _FIGURES,
            0.29, "passed the gate",
        ),
    ),
    {"5": "5: has no manifest.json, but ['model.pkl']"}, "SQLite in the data folder",
)  # fmt: skip
PIPELINE_RUN = PipelineRun(
    f"{_ID}5", "load", RunState.DONE, "schedule", START - 62 * _MINUTE, START - 60 * _MINUTE, "gate", 1.0,
    "version 4 is the champion", "4", True, _FIGURES,
)  # fmt: skip
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
