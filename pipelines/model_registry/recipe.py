"""What can be trained, judged and stored alike: how it is made, and which files hold what it learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trimtab.models.contracts import Forecaster, HasFeatures
from trimtab.pipelines.model_registry.artifact import ARRAYS_FILE, pack_arrays
from trimtab.pipelines.model_registry.model_loader import ForecasterFactory, catalogue_forecaster


class Recipe(Protocol):
    """A kind of model; see `artifact.Manifest` for kind, name and parameters."""

    @property
    def kind(self) -> str:
        """How it is stored."""
        ...

    @property
    def name(self) -> str:
        """Of the forecaster, or of its class."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it is made with, plain JSON."""
        ...

    @property
    def features(self) -> Sequence[str]:
        """What it forecasts from, by name and in order; empty = it does not say."""
        ...

    def make_forecaster(self) -> Forecaster:
        """One that has learnt nothing."""
        ...

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """The files that hold what it learnt."""
        ...


@dataclass(frozen=True, slots=True)
class CatalogueRecipe:
    """A forecaster of the catalogue; what it learnt are arrays."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    make: ForecasterFactory = catalogue_forecaster
    kind: str = "arrays"

    @property
    def features(self) -> Sequence[str]:
        """As the forecaster tells them."""
        fresh = self.make_forecaster()
        return fresh.features if isinstance(fresh, HasFeatures) else ()

    def make_forecaster(self) -> Forecaster:
        """One that has learnt nothing."""
        return self.make(self.name, **self.parameters)

    def pack(self, forecaster: Forecaster) -> Mapping[str, bytes]:
        """A safetensors file."""
        return {ARRAYS_FILE: pack_arrays(forecaster.state())}
