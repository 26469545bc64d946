"""A dashboard with incidents, recommendations, actions and tools: a Redis that evicts keys too soon."""

from dataclasses import dataclass, field, replace

from tests.browser.dashboard_server import MINUTE, STEP, DashboardServer, now_ns
from tests.builders.series import SECOND, tick_scores
from tests.fakes.fake_control_loop import FakeControlLoop
from trimtab.engine.api.shapes.examples import ACTION, CHANGE, INCIDENT, RECOMMENDATION, TARGET, TOOL
from trimtab.engine.types import (
    ActionState,
    Direction,
    IncidentState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    Mode,
    Outcome,
    PatternMatch,
    Recommendation,
    RecommendationState,
    Risk,
    SeriesKey,
    Severity,
    ShadowEnd,
    Silence,
    Suspect,
    ToolAction,
    ToolState,
    ToolStatus,
)

HIT = SeriesKey.of("prometheus", "redis_hit_ratio", {"instance": "cache-1"})
LATENCY = SeriesKey.of("prometheus", "http_request_seconds_p99", {"service": "checkout"})
HOUR = 60 * MINUTE
HOSTILE = "<img src=x onerror=alert(2)>"


def ulid(number: int, time: str = "01JGFJJZ00") -> str:
    """Return a ULID that sorts by the number."""
    return f"{time}{number:016d}"


MANY = {f"redis_commands_{i}_per_second": float(i) for i in range(20)}
INCIDENT_ID, PAST_ID = ulid(50), ulid(10)
MEMORY, LAZY, RELOAD = ulid(61), ulid(62), ulid(63)
RUNNING, KEPT, LOST, REFUSED = ulid(72), ulid(71), ulid(70), ulid(69)


@dataclass
class ControlLoopDashboard(DashboardServer):
    """A dashboard server with the control loop enabled."""

    control_loop: FakeControlLoop = field(init=False)

    def __post_init__(self) -> None:
        self.control_loop = FakeControlLoop(self.clock, self.live)
        self.ports = self.control_loop.ports()

    def recommendation(self, recommendation_id: str) -> Recommendation:
        """Return the stored recommendation."""
        return self.control_loop.ledger.recommendation(recommendation_id)

    def seed(self) -> None:
        """Add an open incident, a similar past one, three recommendations, four actions and four tools."""
        super().seed()
        self._seed_scores()
        self._seed_incidents()
        self._seed_recommendations()
        self._seed_actions()
        self._seed_tools()

    def _samples(
        self, key: SeriesKey, value: float, score: float, band: tuple[float, float], ago: int
    ) -> None:
        low, high = band
        columns = {
            "anomaly_score": [score],
            "yhat": [(low + high) / 2],
            "yhat_lower": [low],
            "yhat_upper": [high],
        }
        self.score_log.append([key], tick_scores(key.source, now_ns() - ago * STEP, [value], **columns))

    def _seed_scores(self) -> None:
        for ago in range(720, 0, -1):
            hot, wave = ago <= 96, 0.004 * (ago % 5)
            self._samples(HIT, (0.61 if hot else 0.97) + wave, 6.2 if hot else 0.2, (0.955, 0.995), ago)
            late = ago <= 88
            self._samples(LATENCY, (1.9 if late else 0.21) + wave, 3.1 if late else 0.3, (0.18, 0.26), ago)
        self.add_series(HIT, unit="ratio", value=0.61, anomaly_score=6.2, yhat_lower=0.955, yhat_upper=0.995)
        self.add_series(LATENCY, unit="s", value=1.9, anomaly_score=3.1, yhat_lower=0.18, yhat_upper=0.26)

    def _seed_incidents(self) -> None:
        incidents, start = self.control_loop.incidents, now_ns() - 8 * MINUTE
        incidents.by_id.clear()
        incidents.changes_by_id.clear()
        below = {"direction": Direction.BELOW, "value": 0.61, "lower": 0.955, "upper": 0.995, "score": 6.2}
        above = {"value": 1.9, "lower": 0.18, "upper": 0.26, "score": 3.1}
        parts = (
            self.add_anomaly(HIT, ulid(80, "01J8000000"), start, **below),
            self.add_anomaly(LATENCY, ulid(81, "01J8000000"), start + 40 * SECOND, **above),
        )
        suspects = (
            Suspect(
                HIT.id, str(HIT), "redis/cache-1", 0.71, start, 6.2, "it moved first, 40 s before checkout"
            ),
            Suspect(
                LATENCY.id, str(LATENCY), "checkout", 0.18, start + 40 * SECOND, 3.1, "it reads from cache-1"
            ),
        )
        pattern = replace(INCIDENT.patterns[0], since=start, series_ids=(HIT.id,))
        now = replace(
            INCIDENT, id=INCIDENT_ID, start=start, anomaly_ids=tuple(a.id for a in parts),
            suspects=suspects, patterns=(pattern,), change_ids=(ulid(40), ulid(41)), similar=(PAST_ID,),
            state=IncidentState.OPEN,
        )  # fmt: skip
        leak = PatternMatch("memory_leak", "worker", 0.8, start, ("memory grows by 40 MB an hour",))
        past = replace(
            INCIDENT, id=PAST_ID, start=start - 30 * HOUR, end=start - 29 * HOUR,
            level=Severity.LOW, state=IncidentState.RESOLVED, patterns=(leak,),
            title="redis/cache-1: keys are evicted too soon",
        )  # fmt: skip
        incidents.save_incidents([now, past])
        incidents.save_change(replace(CHANGE, id=ulid(40), time=start - 4 * MINUTE))
        incidents.save_change(
            replace(CHANGE, id=ulid(41), time=start - MINUTE, title=HOSTILE, url="", by="anna")
        )

    def _seed_recommendations(self) -> None:
        created, asked = now_ns() - 5 * MINUTE, self.control_loop.ledger.recommendations_by_id
        asked.clear()
        assert RECOMMENDATION.effect is not None
        effect = replace(RECOMMENDATION.effect, series_id=HIT.id)
        memory = replace(
            RECOMMENDATION,
            id=MEMORY,
            created=created,
            expires=created + 15 * MINUTE,
            incident_id=INCIDENT_ID,
            effect=effect,
            shadow=None,
        )
        assert RECOMMENDATION.shadow is not None
        shadow = replace(
            RECOMMENDATION.shadow, time=created + MINUTE, ended=None, end=ShadowEnd.OPEN, figure_since=None,
            severity=0.62, worst=0.85,
        )  # fmt: skip
        lazy = replace(
            memory, id=LAZY, subject="lazyfree-lazy-eviction", before=False, after=True, incident_id=None,
            title="Free evicted keys in the background", effect=None, confidence=0.64, pattern="",
            evidence=("evicting takes 3 % of the main thread", f"a label reads {HOSTILE}"),
            command="redis-cli -h cache-1 CONFIG SET lazyfree-lazy-eviction yes", cost="", disproof="",
        )  # fmt: skip
        reload = replace(
            memory, id=RELOAD, tool="pm2", target="worker", subject="reload", is_action=True, before=None,
            after=None, title="Reload the leaking worker", risk=Risk.HIGH, effect=None, incident_id=None,
            evidence=("its memory grows by 40 MB an hour and reaches its limit in 2 h",), cost="a reload",
            pattern="memory_leak", command="pm2 reload worker",
        )  # fmt: skip
        memory = replace(memory, shadow=shadow)
        helped = replace(
            memory, id=ulid(60), incident_id=PAST_ID, state=RecommendationState.CLOSED, approver="ben",
            approved=created - 30 * HOUR,
            shadow=replace(
                RECOMMENDATION.shadow, time=created - 30 * HOUR, ended=created - 29 * HOUR, end=ShadowEnd.OVER
            ),
        )  # fmt: skip
        asked.update({r.id: r for r in (memory, lazy, reload, helped)})

    def _seed_actions(self) -> None:
        ledger, now = self.control_loop.ledger, now_ns()
        ledger.actions_by_id.clear()
        ledger.rows.clear()
        ledger.broken, self.control_loop.audit_problem, self.control_loop.decisions.refusal = None, None, None
        ledger.pause_state = replace(ledger.pause_state, on=False)
        nights = Silence(ulid(30), ("batch/*", "reports"), now - HOUR, now + HOUR, "anna", "month's end")
        ledger.silences_by_id = {nights.id: nights}
        running = replace(
            ACTION, id=RUNNING, key="r", recommendation_id=ulid(60), state=ActionState.VERIFYING,
            created=now - 4 * MINUTE, started=now - 4 * MINUTE, ended=None, outcome=None,
        )  # fmt: skip
        kept = replace(
            ACTION, id=KEPT, key="k", recommendation_id=ulid(60), created=now - 30 * HOUR,
            started=now - 30 * HOUR, ended=now - 29 * HOUR, mode=Mode.AUTO, by="trimtab",
        )  # fmt: skip
        lost = replace(
            kept, id=LOST, key="l", subject="warm_keys", is_action=True, before=None, after=None, by="anna",
            recommendation_id=None, state=ActionState.UNKNOWN, told="",
            outcome=Outcome(ActionState.UNKNOWN, "no answer within 30 s"),
        )  # fmt: skip
        refused = replace(
            lost, id=REFUSED, key="s", subject="maxmemory", is_action=False, before=ACTION.before, by="ben",
            after=ACTION.after, state=ActionState.REFUSED, started=None,
            outcome=Outcome(ActionState.REFUSED, "maxmemory touched cache-1 3 min ago; wait 12 min"),
        )  # fmt: skip
        for action in (refused, lost, kept, running):
            ledger.propose(action, "action executed", action.by)

    def _seed_tools(self) -> None:
        box = self.control_loop.toolbox
        policy = Knob(
            "maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "allkeys-lfu", "noeviction"),
            denied=("noeviction",), help="Which keys go first.",
        )  # fmt: skip
        target = replace(
            TARGET,
            knobs=(
                *TARGET.knobs,
                (policy, KnobReading("allkeys-lru", set_here=False, lasts=Lasts.IN_A_FILE)),
            ),
            actions=(
                *TARGET.actions,
                ToolAction("flush_cold", "Drop keys that nobody read today.", Risk.HIGH, reduces=True),
            ),
            metrics={
                **TARGET.metrics,
                "redis_evicted_keys_per_second": 420.0,
                "redis_clients": float("nan"),
                **MANY,
            },
        )
        denied = ToolStatus(
            ToolState.DENIED, "wrong password for trimtab; set tools.postgresql.password_file", ""
        )
        box.tool_views = {
            "redis": TOOL,
            "postgresql": replace(
                TOOL, name="postgresql", kind="postgresql", status=denied, targets=("orders",)
            ),
            "pm2": replace(TOOL, name="pm2", kind="pm2", trial=True, targets=("api", "worker")),
            "shop": replace(
                TOOL,
                name="shop",
                kind="http_service",
                enabled=False,
                status=ToolStatus(ToolState.DISABLED),
                targets=("shop",),
            ),
        }
        box.target_views = {("redis", "cache-1"): target}
