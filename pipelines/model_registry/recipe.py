"""Recipes: how a kind of model is built, and which files hold its learned state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trimtab.models.contracts import Forecaster, HasFeatures
from trimtab.pipelines.model_registry.artifact import ARRAYS_FILE, pack_arrays
from trimtab.pipelines.model_registry.model_loader import ForecasterFactory, catalogue_forecaster


class Recipe(Protocol):
    """How to build, describe and store one kind of model; see `artifact.Manifest`."""

    @property
    def kind(self) -> str:
        """Storage format of the model."""
        ...

    @property
    def name(self) -> str:
        """Name of the forecaster, or of its class."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Constructor parameters, plain JSON."""
        ...

    @property
    def features(self) -> Sequence[str]:
        """Names of the features, in order; empty = unknown."""
        ...

    def make_forecaster(self) -> Forecaster:
        """Return an unfitted forecaster."""
        ...

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """Return the files that hold the learned state, by name."""
        ...


@dataclass(frozen=True, slots=True)
class CatalogueRecipe:
    """Recipe of a forecaster of the catalogue; its learned state is arrays."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    make: ForecasterFactory = catalogue_forecaster
    kind: str = "arrays"

    @property
    def features(self) -> Sequence[str]:
        """Feature names that the forecaster declares."""
        fresh = self.make_forecaster()
        return fresh.features if isinstance(fresh, HasFeatures) else ()

    def make_forecaster(self) -> Forecaster:
        """Return an unfitted forecaster."""
        return self.make(self.name, **self.parameters)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """Return the learned state as a safetensors file."""
        return {ARRAYS_FILE: pack_arrays(forecaster.state())}
