"""Waits and assertions of the closed-loop tests on a running engine."""

from typing import Any

from tests.acceptance.engine import EngineProcess, wait_until

SCORED_WITHIN_S, INCIDENT_WITHIN_S, RECOMMENDED_WITHIN_S, ACTION_WITHIN_S, ACTION_ENDS_WITHIN_S = (
    150.0,
    240.0,
    60.0,
    120.0,
    240.0,
)
"""Upper bounds, seconds: until series are scored; then to incident, recommendation, action and its end."""
NO_ACTION_FOR_S = 40.0
"""Seconds: twice the delay of mode auto at time scale 0.1. Later no action begins."""
_RUNNING = {"proposed", "executing", "verifying"}


def find_series(engine: EngineProcess, metric: str) -> dict[str, Any]:
    """Return the series of a metric; empty = none yet."""
    return next((s for s in engine.list_all("series", search=metric) if s["metric"] == metric), {})


def wait_until_scored(engine: EngineProcess, metric: str) -> None:
    """Wait until the series of a metric is scored."""
    wait_until(lambda: find_series(engine, metric).get("anomaly_score") is not None, SCORED_WITHIN_S)


def wait_for_incident(engine: EngineProcess, pattern: str, within_s: float = INCIDENT_WITHIN_S) -> str:
    """Return the id of the incident with a pattern, once there is one."""

    def check() -> str:
        for incident in engine.list_all("incidents"):
            if any(p["name"] == pattern for p in incident["patterns"]):
                return str(incident["id"])
        return ""

    return str(wait_until(check, within_s))


def wait_for_recommendation(engine: EngineProcess, incident: str) -> dict[str, Any]:
    """Return the only recommendation of an incident."""
    listed = wait_until(
        lambda: engine.list_all("recommendations", incident_id=incident), RECOMMENDED_WITHIN_S
    )
    assert len(listed) == 1, listed
    recommendation: dict[str, Any] = listed[0]
    return recommendation


def wait_for_action(engine: EngineProcess, recommendation: dict[str, Any]) -> dict[str, Any]:
    """Return the action of a recommendation."""
    path = f"recommendations/{recommendation['id']}"
    action: dict[str, Any] = wait_until(lambda: engine.get(path)["actions"], ACTION_WITHIN_S)[0]
    assert (action["tool"], action["target"], action["subject"]) == tuple(
        recommendation[name] for name in ("tool", "target", "subject")
    )
    return action


def wait_for_action_end(engine: EngineProcess, action: dict[str, Any]) -> dict[str, Any]:
    """Return an action once it has ended."""
    path = f"actions/{action['id']}"
    wait_until(lambda: engine.get(path)["state"] not in _RUNNING, ACTION_ENDS_WITHIN_S)
    ended: dict[str, Any] = engine.get(path)
    print(f"{ended['subject']} {ended['before']} -> {ended['after']}: {ended['outcome']}")
    return ended


def wait_for_audit(engine: EngineProcess, subject: str, last: str) -> list[str]:
    """Return the kinds of audit rows of a recommendation or an action in order, once the last is `last`.

    Also verify the hash chain of the audit.
    """

    def check() -> list[str]:
        kinds = [row["what"] for row in reversed(engine.list_all("audit")) if row["subject"] == subject]
        return kinds if kinds[-1:] == [last] else []

    result: list[str] = wait_until(check, RECOMMENDED_WITHIN_S)
    engine.run_command("audit", "verify")
    return result
