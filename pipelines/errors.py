"""Exceptions of the pipelines."""

from trimtab.models.errors import TrimtabError


class PipelineError(TrimtabError):
    """Base class of the errors of reading history, training and evaluation."""


class InputError(PipelineError):
    """A file, table or request body is invalid; the message names the line and the column."""


class HistoryError(PipelineError):
    """Recorded history is not available: the server does not answer, refuses the query, or has no samples."""


class RecordingWarning(UserWarning):
    """A recording is readable, but its times repeat or step back."""


class ModelRefusedError(PipelineError):
    """A stored model does not match its manifest or is not trusted; none of its content was executed."""


class BusyError(PipelineError):
    """Another run of the same pipeline is in progress."""


class RegistryError(PipelineError):
    """The model registry does not answer or refuses a request."""
