"""Guard rules that refuse proposals with unreliable inputs."""

from trimtab.engine.actions.guard.guard_request import GuardRequest
from trimtab.engine.actions.guard.situation import GuardDecision


def freshness(request: GuardRequest) -> GuardDecision | None:
    """Refuse unless the source is up, the newest sample is fresh and the window is complete enough."""
    inputs, limits = request.situation.inputs, request.limits
    if inputs is None:
        return (
            None
            if request.person
            else request.refuse("freshness", f"{request.label}: its input metrics are unknown")
        )
    if inputs.series == 0:
        return request.refuse(
            "freshness",
            f"{request.label} has no input series: its selector matches nothing; fix the selector",
        )
    if not inputs.source_up:
        state = "is not known to be up" if inputs.source_up is None else "is down"
        return request.refuse(
            "freshness", f"the source of the inputs of {request.label} {state}; wait for it"
        )
    if inputs.newest_age is None or inputs.newest_age > limits.fresh_intervals:
        age = "missing" if inputs.newest_age is None else f"{inputs.newest_age:.3g} intervals old"
        return request.refuse(
            "freshness",
            f"the newest sample is {age}, at most {limits.fresh_intervals:g} are allowed; wait for it",
        )
    if inputs.present_ratio is None or inputs.present_ratio < limits.window_present:
        share = "an unknown share" if inputs.present_ratio is None else f"{inputs.present_ratio:.0%}"
        return request.refuse(
            "freshness",
            f"{share} of the window has samples, {limits.window_present:.0%} are needed; wait for it",
        )
    return None


def suspect_values(request: GuardRequest) -> GuardDecision | None:
    """Refuse on a sudden zero (not "no load") or a level jump that suggests a changed unit."""
    inputs = request.situation.inputs
    if inputs is None:
        return None
    if inputs.zeroed:
        return request.refuse(
            "sudden zero",
            f"{_names(inputs.zeroed)} fell to exactly 0, which is suspect; check the exporter",
        )
    if inputs.jumped:
        return request.refuse(
            "unit change",
            f"{_names(inputs.jumped)} jumped by a factor of {request.limits.unit_jump:g} or more, "
            "which suggests a changed unit; check the exporter",
        )
    return None


def reducing_inputs(request: GuardRequest) -> GuardDecision | None:
    """Refuse a reduction while an input is missing: it may be the one that needs the capacity."""
    inputs = request.situation.inputs
    if inputs is None or not request.is_reduction or not inputs.missing:
        return None
    return request.refuse(
        "reducing",
        f"{inputs.missing} of {inputs.series} inputs of {request.label} are missing; a reduction needs all",
    )


def mass_breaker(request: GuardRequest) -> GuardDecision | None:
    """Refuse everything during a mass anomaly: a common cause is not fixed by a single change."""
    facts, limits = request.situation.mass, request.limits
    if facts is None:
        return request.refuse(
            "mass breaker", "the number of anomalous series is unknown; wait for the next tick"
        )
    if facts.sources and facts.sources_down / facts.sources > limits.mass_sources:
        return request.refuse(
            "mass breaker",
            f"{facts.sources_down} of {facts.sources} sources are down, over {limits.mass_sources:.0%}: "
            "all actions are suspended; look for a common cause",
        )
    enough = facts.anomalous >= limits.mass_series_least
    if enough and facts.anomalous > limits.mass_series * facts.watched:
        return request.refuse(
            "mass breaker",
            f"{facts.anomalous} of {facts.watched} series elsewhere are anomalous, "
            f"over {limits.mass_series:.0%}: all actions are suspended; look for a common cause",
        )
    return None


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
