"""Check of a tool's `mode:` setting: keys that match no knob and no action."""

from collections.abc import Iterable
from difflib import get_close_matches

from trimtab.engine.ports import TargetView
from trimtab.engine.settings.tools import unknown_mode_keys


def subject_names(view: TargetView) -> set[str]:
    """Return the names of a target's knobs and actions."""
    return {knob.name for knob, _ in view.knobs} | {action.name for action in view.actions}


def unused_mode_keys(modes: Iterable[str], targets: Iterable[str], subjects: set[str]) -> tuple[str, ...]:
    """Return a message for each key of `modes` that matches no knob and no action of the targets.

    >>> unused_mode_keys(["*", "maxmemry"], ["cache-1"], {"maxmemory"})
    ("mode names 'maxmemry', but there is no such knob or action; did you mean maxmemory?",)
    """
    return tuple(
        _describe_unused_key(key, subjects) for key in sorted(unknown_mode_keys(modes, targets, subjects))
    )


def _describe_unused_key(key: str, subjects: set[str]) -> str:
    near = get_close_matches(key, sorted(subjects), n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(subjects)) or 'none'}"
    return f"mode names {key!r}, but there is no such knob or action; {hint}"
