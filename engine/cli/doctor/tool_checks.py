"""The part of `trimtab doctor` that asks the tools: do they answer, and have what is named."""

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
    ToolState.UNREACHABLE: "until it answers its figures are unknown and nothing of it is changed",
    ToolState.DENIED: "correct its credentials, or give it the rights that `trimtab grant {name}` prints",
    ToolState.QUARANTINED: "install what is missing, or mend the tool",
}
_ACTING_MODES = frozenset({Mode.APPROVE, Mode.AUTO})


class EmptyKeyValueStore:
    """A memory for one look: what a person switched off is the running engine's to know."""

    def get(self, name: str) -> Any:  # noqa: ANN401, ARG002 - the rack's port has them
        """Nothing was kept."""
        return None

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Nothing is kept."""


async def tool_checks(tools: Mapping[str, ToolSettings]) -> list[Check]:
    """Ask every tool that is enabled, all at the same time; nothing is changed."""
    enabled = {name: part for name, part in tools.items() if part.enabled}
    with capture_logs():  # the checks say it
        rack = await ToolRegistry(enabled, EmptyKeyValueStore(), SystemClock()).open()
        try:
            return list(await asyncio.gather(*(_check_tool(rack, view) for view in await rack.views())))
        finally:
            await rack.close()


async def _check_tool(rack: ToolRegistry, view: ToolView) -> Check:
    name, status = f"tools.{view.name}", view.status
    detail = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    if status.state is ToolState.UNREACHABLE:
        return Check(name, CheckState.UNREACHABLE, detail, _ADVICE[status.state])
    if status.state in _ADVICE:
        return Check(name, CheckState.FOUND, detail, _ADVICE[status.state].format(name=view.name))
    targets = await asyncio.gather(*(rack.target(view.name, target) for target in view.targets))
    wrong = [*_refused_modes(view), *_absent_targets(targets)]
    if not any(seen.problem for seen in targets):
        wrong += unused_mode_keys(view.modes, view.targets, set().union(*map(subject_names, targets)))
    if not wrong:
        return Check(name, CheckState.OK, detail)
    advice = f"correct tools.{view.name} in trimtab.yaml, or start what is missing"
    return Check(name, CheckState.FOUND, f"{detail}; {wrong[0]}", advice, tuple(wrong))


def _refused_modes(view: ToolView) -> Sequence[str]:
    """Modes that ask for more than the server lets us do."""
    if view.status.state is not ToolState.EXPORT_ONLY:
        return ()
    asked = sorted(subject for subject, mode in view.modes.items() if mode in _ACTING_MODES)
    return [
        f"mode of {subject!r} is {view.modes[subject]}, but nothing can be set there" for subject in asked
    ]


def _absent_targets(targets: Sequence[TargetView]) -> Sequence[str]:
    """Targets that cannot be read, or of which nothing runs."""
    return [
        f"target {seen.target}: {seen.problem or 'nothing of it runs'}"
        for seen in targets
        if seen.problem or (seen.metrics and not any(seen.metrics.values()))
    ]
