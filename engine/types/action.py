"""Actions: guarded changes with their outcomes, and the pause of all actions."""

from dataclasses import dataclass
from enum import StrEnum

from trimtab.engine.types.knob import Value
from trimtab.engine.types.recommendation import Effect
from trimtab.engine.types.tool import Mode


class ActionState(StrEnum):
    """proposed -> executing -> verifying -> kept | rolled_back | inconclusive | failed | unknown.

    refused = never sent to the tool, because a guard rule refused the request.
    """

    PROPOSED = "proposed"
    EXECUTING = "executing"
    VERIFYING = "verifying"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"

    @property
    def is_final(self) -> bool:
        """Whether the engine makes no further transition from this state."""
        return self not in {ActionState.PROPOSED, ActionState.EXECUTING, ActionState.VERIFYING}

    @property
    def changed_nothing(self) -> bool:
        """Whether the action ended without changing anything."""
        return self in {ActionState.FAILED, ActionState.REFUSED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of an action.

    effect : measured change of the metric, with interval; None = not measurable
    words  : description, such as "rolled back: hit ratio fell"; claims an improvement only when it is proven
    """

    state: ActionState
    words: str
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One guarded change.

    key        : idempotency key; no two actions with one key are ever sent
    set_before : whether the knob was set explicitly before; False = an undo resets it
    undoes     : id of the action that this one rolls back
    time_scale : factor on the durations of guard rules; below 1 only for trial targets
    told       : the tool's answer: how long the change persists and how to make it permanent
    created, started, ended : int64 ns UTC
    """

    id: str
    key: str
    recommendation_id: str | None
    tool: str
    target: str
    subject: str
    is_action: bool
    before: Value
    after: Value
    set_before: bool
    state: ActionState
    mode: Mode
    by: str
    created: int
    started: int | None = None
    ended: int | None = None
    undoes: str | None = None
    time_scale: float = 1.0
    told: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch: no action runs while it is on. It is durable, and only an operator switches it off.

    It stops the engine's own actions and rollbacks, and what operators approve, apply, set or run. It does
    not stop an operator's rollback of an action, because that restores the previous value.
    """

    on: bool
    by: str = ""
    since: int = 0
    reason: str = ""
