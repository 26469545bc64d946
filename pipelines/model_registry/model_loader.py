"""A stored model as a forecaster. What could run code of a stranger is not opened without being trusted."""

from collections.abc import Callable, Collection
from typing import Any

from trimtab.models.contracts import Forecaster
from trimtab.models.errors import ModelError
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.artifact import StoredModel

ForecasterFactory = Callable[..., Forecaster]
"""(name, **parameters) -> a forecaster that has learnt nothing; see `models.catalogue.forecaster`."""


def catalogue_forecaster(name: str, **parameters: Any) -> Forecaster:  # noqa: ANN401 - each member has its own
    """A forecaster of the catalogue."""
    from trimtab.models.catalogue import forecaster

    return forecaster(name, **parameters)


def restore_forecaster(
    stored: StoredModel, trusted: Collection[str] = (), make: ForecasterFactory = catalogue_forecaster
) -> Forecaster:
    """The forecaster that was stored. Raises ModelRefusedError.

    trusted : names of types that a scikit-learn model may hold beside those that skops knows as harmless
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
