"""Which keys of a tool's `mode:` mean nothing, as far as its knobs and actions are known."""

from collections.abc import Iterable
from difflib import get_close_matches

from trimtab.engine.ports import TargetView
from trimtab.engine.settings.tools import unknown_mode_keys


def subject_names(seen: TargetView) -> set[str]:
    """Names of the knobs and actions of a target."""
    return {knob.name for knob, _ in seen.knobs} | {action.name for action in seen.actions}


def unused_mode_keys(modes: Iterable[str], targets: Iterable[str], subjects: set[str]) -> tuple[str, ...]:
    """In words, the keys of `modes` that no knob and no action of these targets is called by.

    >>> unused_mode_keys(["*", "maxmemry"], ["cache-1"], {"maxmemory"})
    ("mode names 'maxmemry', but no knob and no action is called so; did you mean maxmemory?",)
    """
    return tuple(
        _describe_unused_key(key, subjects) for key in sorted(unknown_mode_keys(modes, targets, subjects))
    )


def _describe_unused_key(key: str, subjects: set[str]) -> str:
    near = get_close_matches(key, sorted(subjects), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(subjects)) or 'none'}"
    return f"mode names {key!r}, but no knob and no action is called so; {hint}"
