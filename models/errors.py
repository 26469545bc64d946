"""The root of the one exception tree."""


class TrimtabError(Exception):
    """Every error that Trimtab raises on purpose; its message says what to do."""


class ModelError(TrimtabError):
    """A model was asked for something it cannot do."""


class UnknownModelError(ModelError):
    """No catalogue entry or entry point has that name."""


class ShapeError(ModelError):
    """An array has not the shape that the contract promises."""


class StateError(ModelError):
    """A stored state does not fit this model: other version, other fields or other sizes."""
