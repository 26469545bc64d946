"""Root of the exception tree and the exceptions of the models."""


class TrimtabError(Exception):
    """Base class of all errors that Trimtab raises on purpose; the message says what to do."""


class ModelError(TrimtabError):
    """A model got a parameter or a request that it does not support."""


class UnknownModelError(ModelError):
    """No catalogue entry or entry point has this name."""


class ShapeError(ModelError):
    """An array does not have the shape that the contract requires."""


class StateError(ModelError):
    """A stored state does not fit this model: version, fields or sizes differ."""
