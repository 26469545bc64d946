"""Checks of tools for `trimtab doctor`: whether they answer and have the configured targets."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from structlog.testing import capture_logs

from trimtab.engine.cli.doctor.doctor import Check, CheckState
from trimtab.engine.clock import SystemClock
from trimtab.engine.ports import TargetView, ToolView
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools.mode_check import subject_names, unused_mode_keys
from trimtab.engine.tools.tool_registry import ToolRegistry
from trimtab.engine.types import Mode, ToolState

_ADVICE = {
    ToolState.UNREACHABLE: "its metrics are unknown and nothing is changed until it answers",
    ToolState.DENIED: "fix its credentials, or grant the privileges that `trimtab grant {name}` prints",
    ToolState.QUARANTINED: "install what is missing, or fix the tool",
}
_ACTING_MODES = frozenset({Mode.APPROVE, Mode.AUTO})


class EmptyKeyValueStore:
    """Empty key-value store: only the running engine knows which tools an operator disabled."""

    def get(self, name: str) -> Any:  # noqa: ANN401, ARG002 - the tool registry's port has them
        """Return None: nothing is stored."""
        return None

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Discard the value."""


async def tool_checks(tools: Mapping[str, ToolSettings]) -> list[Check]:
    """Check every enabled tool concurrently; changes nothing."""
    enabled = {name: settings for name, settings in tools.items() if settings.enabled}
    with capture_logs():  # the checks report it
        registry = await ToolRegistry(enabled, EmptyKeyValueStore(), SystemClock()).open()
        try:
            return list(
                await asyncio.gather(*(_check_tool(registry, view) for view in await registry.views()))
            )
        finally:
            await registry.close()


async def _check_tool(registry: ToolRegistry, view: ToolView) -> Check:
    name, status = f"tools.{view.name}", view.status
    detail = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    if status.state is ToolState.UNREACHABLE:
        return Check(name, CheckState.UNREACHABLE, detail, _ADVICE[status.state])
    if status.state in _ADVICE:
        return Check(name, CheckState.FOUND, detail, _ADVICE[status.state].format(name=view.name))
    targets = await asyncio.gather(*(registry.target(view.name, target) for target in view.targets))
    problems = [*_refused_modes(view), *_absent_targets(targets)]
    if not any(target.problem for target in targets):
        problems += unused_mode_keys(view.modes, view.targets, set().union(*map(subject_names, targets)))
    if not problems:
        return Check(name, CheckState.OK, detail)
    advice = f"fix tools.{view.name} in trimtab.yaml, or start what is missing"
    return Check(name, CheckState.FOUND, f"{detail}; {problems[0]}", advice, tuple(problems))


def _refused_modes(view: ToolView) -> Sequence[str]:
    """Return the modes that need changes the server does not allow."""
    if view.status.state is not ToolState.EXPORT_ONLY:
        return ()
    subjects = sorted(subject for subject, mode in view.modes.items() if mode in _ACTING_MODES)
    return [
        f"mode of {subject!r} is {view.modes[subject]}, but the server allows no changes"
        for subject in subjects
    ]


def _absent_targets(targets: Sequence[TargetView]) -> Sequence[str]:
    """Return the targets that cannot be read, or of which nothing runs."""
    return [
        f"target {target.target}: {target.problem or 'none of its processes runs'}"
        for target in targets
        if target.problem or (target.metrics and not any(target.metrics.values()))
    ]
