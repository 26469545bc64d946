"""The pipelines' branch of the exception tree."""

from trimtab.models.errors import TrimtabError


class PipelineError(TrimtabError):
    """Something in reading history, training or judging."""


class InputError(PipelineError):
    """A file, table or request body cannot be read; the message names line and column."""


class HistoryError(PipelineError):
    """Recorded history could not be had: the server did not answer, or refused the question."""


class RecordingWarning(UserWarning):
    """A recording was read, but something in it is worth a look."""


class ModelRefusedError(PipelineError):
    """A stored model is not what its manifest says, or is not trusted: nothing of it ran."""


class BusyError(PipelineError):
    """The same pipeline runs already."""


class RegistryError(PipelineError):
    """The model registry did not answer, or refused."""
