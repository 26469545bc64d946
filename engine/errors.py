"""The engine's branch of the exception tree."""

from trimtab.models.errors import TrimtabError
from trimtab.pipelines.errors import InputError

__all__ = [
    "ConflictError",
    "EngineError",
    "InputError",
    "LockedError",
    "NewerStateError",
    "NotDeliveredError",
    "NotFoundError",
    "RefusedError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "ToolError",
    "ToolUncertainError",
    "TrimtabError",
]


class EngineError(TrimtabError):
    """Something in the running system."""


class SettingsError(EngineError):
    """trimtab.yaml or the environment holds a value that is not allowed."""


class SourceError(EngineError):
    """A source did not answer, or only in part: its samples of this tick are unknown."""


class StoreError(EngineError):
    """The store cannot be read or written."""


class NewerStateError(StoreError):
    """The data folder was written by a newer Trimtab."""


class LockedError(StoreError):
    """Another engine works on this data folder."""


class NotFoundError(EngineError):
    """No such series, anomaly or key."""


class ConflictError(EngineError):
    """The thing exists already, or was changed by somebody else."""


class NotDeliveredError(EngineError):
    """A receiver did not take a notice.

    reason  : one of a handful of words, for metrics
    retry   : another try may help; False = it refuses this notice
    after_s : the receiver asks for so many seconds before the next try
    """

    def __init__(self, message: str, reason: str, *, retry: bool = True, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry = retry
        self.after_s = after_s


class ToolError(EngineError):
    """A managed tool did not do what it was asked; nothing was changed."""


class ToolUncertainError(ToolError):
    """A managed tool gave no answer to a change: whether it took effect is not known."""


class RefusedError(EngineError):
    """A guardrail, or a rule of the tool itself, forbids this change."""
