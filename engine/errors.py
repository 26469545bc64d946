"""Exceptions of the engine. All derive from `TrimtabError`."""

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
    """Base class of errors in the running engine."""


class SettingsError(EngineError):
    """A value in trimtab.yaml, the environment or the command line is not allowed."""


class SourceError(EngineError):
    """A source did not answer, or only in part: its samples of this tick are unknown."""


class StoreError(EngineError):
    """The store cannot be read or written."""


class NewerStateError(StoreError):
    """The data folder was written by a newer version of Trimtab."""


class LockedError(StoreError):
    """Another engine owns this data folder."""


class NotFoundError(EngineError):
    """The requested object does not exist."""


class ConflictError(EngineError):
    """The object already exists, or was changed by another client in the meantime."""


class NotDeliveredError(EngineError):
    """A receiver did not accept a notification.

    reason  : short category, used as a metric label
    retry   : whether another attempt may succeed; False = the receiver rejects this notification
    after_s : seconds to wait before the next attempt, as requested by the receiver; 0 = no request
    """

    def __init__(self, message: str, reason: str, *, retry: bool = True, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry = retry
        self.after_s = after_s


class ToolError(EngineError):
    """A managed tool did not do what was requested. Nothing was changed."""


class ToolUncertainError(ToolError):
    """A managed tool did not answer a change request: whether the change took effect is unknown."""


class RefusedError(EngineError):
    """A guard rule, or a rule of the tool itself, forbids this change."""
