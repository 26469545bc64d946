"""Rows of the guard that refuse: whether what the proposal rests on can be believed."""

from trimtab.engine.actions.guard.guard_request import Ask
from trimtab.engine.actions.guard.situation import Decision


def freshness(ask: Ask) -> Decision | None:
    """The source answers, the newest sample is young, the window is there."""
    inputs, limits = ask.situation.inputs, ask.limits
    if inputs is None:
        return (
            None if ask.person else ask.refuse("freshness", f"{ask.place}: the figures behind it are unknown")
        )
    if inputs.series == 0:
        return ask.refuse(
            "freshness", f"{ask.place} rests on no series: its selector finds nothing; mend that"
        )
    if not inputs.source_up:
        state = "is not known to be up" if inputs.source_up is None else "is down"
        return ask.refuse("freshness", f"the source of the figures behind {ask.place} {state}; wait for it")
    if inputs.newest is None or inputs.newest > limits.fresh_intervals:
        age = "missing" if inputs.newest is None else f"{inputs.newest:.3g} intervals old"
        return ask.refuse(
            "freshness",
            f"the newest sample is {age}, at most {limits.fresh_intervals:g} are allowed; wait for it",
        )
    if inputs.present is None or inputs.present < limits.window_present:
        share = "an unknown share" if inputs.present is None else f"{inputs.present:.0%}"
        return ask.refuse(
            "freshness",
            f"{share} of the window is there, {limits.window_present:.0%} are needed; wait for it",
        )
    return None


def suspect(ask: Ask) -> Decision | None:
    """A sudden zero is not "no load", and a figure that jumps by powers of ten changed its unit."""
    inputs = ask.situation.inputs
    if inputs is None:
        return None
    if inputs.zeroed:
        return ask.refuse(
            "sudden zero",
            f"{_names(inputs.zeroed)} fell to exactly 0, which is suspect; look at what measures it",
        )
    if inputs.jumped:
        return ask.refuse(
            "unit change",
            f"{_names(inputs.jumped)} jumped by a factor of {ask.limits.unit_jump:g} or more, "
            "as a changed unit does; look at what measures it",
        )
    return None


def reducing_inputs(ask: Ask) -> Decision | None:
    """What is missing may be what needs the capacity."""
    inputs = ask.situation.inputs
    if inputs is None or not ask.reduces or not inputs.missing:
        return None
    return ask.refuse(
        "reducing",
        f"{inputs.missing} of {inputs.series} figures behind {ask.place} are missing; a reduction needs all",
    )


def mass(ask: Ask) -> Decision | None:
    """Where much is wrong at once the cause is a common one, and no single change mends it."""
    facts, limits = ask.situation.mass, ask.limits
    if facts is None:
        return ask.refuse("mass breaker", "how much is wrong elsewhere is unknown; wait for the next tick")
    if facts.sources and facts.sources_down / facts.sources > limits.mass_sources:
        return ask.refuse(
            "mass breaker",
            f"{facts.sources_down} of {facts.sources} sources are down, over {limits.mass_sources:.0%}: "
            "all actions are suspended; look for a common cause",
        )
    enough = facts.anomalous >= limits.mass_series_least
    if enough and facts.anomalous > limits.mass_series * facts.watched:
        return ask.refuse(
            "mass breaker",
            f"{facts.anomalous} of {facts.watched} series elsewhere are anomalous, "
            f"over {limits.mass_series:.0%}: all actions are suspended; look for a common cause",
        )
    return None


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
