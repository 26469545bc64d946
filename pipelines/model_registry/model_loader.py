"""Restore a forecaster from a stored model; content that could execute code must be trusted."""

from collections.abc import Callable, Collection
from typing import Any

from trimtab.models.contracts import Forecaster
from trimtab.models.errors import ModelError
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.artifact import StoredModel

ForecasterFactory = Callable[..., Forecaster]
"""(name, **parameters) -> an unfitted forecaster; see `models.catalogue.forecaster`."""


def catalogue_forecaster(name: str, **parameters: Any) -> Forecaster:  # noqa: ANN401 - each member has its own
    """Return an unfitted forecaster of the catalogue."""
    from trimtab.models.catalogue import forecaster

    return forecaster(name, **parameters)


def restore_forecaster(
    stored: StoredModel, trusted: Collection[str] = (), make: ForecasterFactory = catalogue_forecaster
) -> Forecaster:
    """Return the forecaster of a stored model.

    trusted : type names that a scikit-learn model may contain in addition to those skops considers safe
    make    : factory of catalogue forecasters

    Raises ModelRefusedError if the model cannot be restored or is not trusted.
    """
    manifest = stored.manifest
    if manifest.kind != "arrays":
        from trimtab.pipelines.model_registry.submitted_models import restore_submitted

        return restore_submitted(stored, trusted)
    try:
        forecaster = make(manifest.forecaster, **manifest.parameters)
        forecaster.restore(stored.arrays())
    except (ModelError, TypeError, KeyError, ValueError) as error:
        raise ModelRefusedError(
            f"the stored {manifest.forecaster!r} cannot be restored ({type(error).__name__}: {error}); "
            "train a new version"
        ) from error
    return forecaster
