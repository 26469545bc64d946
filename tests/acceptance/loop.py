"""What the tests of the closed loop ask a running engine."""

from typing import Any

from tests.acceptance.engine import Engine, until

CALM_S, SEEN_S, ADVISED_S, ACTED_S, ENDED_S = 150.0, 240.0, 60.0, 120.0, 240.0
"""Until figures are scored; a pattern is seen; it is advised; it is acted; that has ended. Upper bounds."""
WAITS_S = 40.0
"""Twice as long as auto waits at a tenth of the times: what has not begun by then does not begin."""
_RUNNING = {"proposed", "executing", "verifying"}


def figure(engine: Engine, metric: str) -> dict[str, Any]:
    """The series of a metric as it is now; empty = there is none yet."""
    return next((s for s in engine.every("series", search=metric) if s["metric"] == metric), {})


def scored(engine: Engine, metric: str) -> None:
    """Wait until enough is known of it."""
    until(lambda: figure(engine, metric).get("anomaly_score") is not None, CALM_S)


def seen(engine: Engine, pattern: str, within_s: float = SEEN_S) -> str:
    """The id of the incident that shows a pattern, once there is one."""

    def look() -> str:
        shown = (i for i in engine.every("incidents") if any(p["name"] == pattern for p in i["patterns"]))
        return next((str(incident["id"]) for incident in shown), "")

    return str(until(look, within_s))


def advised(engine: Engine, incident: str) -> dict[str, Any]:
    """The recommendation that an incident came to."""
    found = until(lambda: engine.every("recommendations", incident_id=incident), ADVISED_S)
    assert len(found) == 1, found
    one: dict[str, Any] = found[0]
    return one


def begun(engine: Engine, recommendation: dict[str, Any]) -> dict[str, Any]:
    """The action that came of a recommendation."""
    path = f"recommendations/{recommendation['id']}"
    action: dict[str, Any] = until(lambda: engine.get(path)["actions"], ACTED_S)[0]
    assert (action["tool"], action["target"], action["subject"]) == tuple(
        recommendation[name] for name in ("tool", "target", "subject")
    )
    return action


def ended(engine: Engine, action: dict[str, Any]) -> dict[str, Any]:
    """An action once it has ended."""
    path = f"actions/{action['id']}"
    until(lambda: engine.get(path)["state"] not in _RUNNING, ENDED_S)
    done: dict[str, Any] = engine.get(path)
    print(f"{done['subject']} {done['before']} -> {done['after']}: {done['outcome']}")
    return done


def audited(engine: Engine, subject: str, last: str) -> list[str]:
    """What the audit says of a recommendation or an action, in its order, up to its end.

    last : the end that is waited for. The chain of the audit has to be whole then
    """

    def look() -> list[str]:
        said = [row["what"] for row in reversed(engine.every("audit")) if row["subject"] == subject]
        return said if said[-1:] == [last] else []

    found: list[str] = until(look, ADVISED_S)
    engine.command("audit", "verify")
    return found
