"""Catalogue of detectors and forecasters by name; a member is imported on first use.

To add a member: a file in `detectors/` or `forecasters/` and a line here. Other packages register an entry
point in the group `trimtab.detectors` or `trimtab.forecasters`, `my_name = "my_package.module:Class"`.
Built-in names take precedence over entry points.
"""

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from trimtab.models.contracts import Detector, Forecaster
from trimtab.models.errors import ModelError, UnknownModelError

DETECTOR_GROUP = "trimtab.detectors"
FORECASTER_GROUP = "trimtab.forecasters"
RIVER_PREFIX = "river:"

DETECTORS = {
    "ew_zscore": "trimtab.models.detectors.ew_zscore:EwZscore",
    "half_space_trees": "trimtab.models.detectors.half_space_trees:HalfSpaceTrees",
    "level_shift": "trimtab.models.detectors.level_shift:LevelShift",
    "range_exceedance": "trimtab.models.detectors.range_exceedance:RangeExceedance",
    "river": "trimtab.models.river_bank:RiverBank",
    "seasonal_residual": "trimtab.models.detectors.seasonal_residual:SeasonalResidual",
}

FORECASTERS = {
    "boosted": "trimtab.models.forecasters.boosted:Boosted",
    "load": "trimtab.models.load_forecaster:load_forecaster",
    "ridge": "trimtab.models.forecasters.ridge:Ridge",
    "seasonal_naive": "trimtab.models.forecasters.seasonal_naive:SeasonalNaive",
}
"""`load` is the champion: the weighted median of the others."""


def detector_names() -> list[str]:
    """Return the names of all detectors, built-in and from entry points, sorted.

    >>> "ew_zscore" in detector_names()
    True
    """
    return sorted({*DETECTORS, *entry_points(group=DETECTOR_GROUP).names})


def detector(name: str, n_series: int, **parameters: Any) -> Detector:  # noqa: ANN401 - parameters differ by member
    """Create a detector for n_series series; "river:NAME" creates river's detector NAME.

    parameters : constructor parameters of the detector

    Raises UnknownModelError for an unknown name, ModelError for a parameter or value that the detector
    does not accept.

    >>> detector("ew_zscore", n_series=1000, fading_factor=0.05).n_series
    1000
    """
    if name.startswith(RIVER_PREFIX):
        from trimtab.models.river_bank import river_detector

        return river_detector(n_series, name.removeprefix(RIVER_PREFIX), name, **parameters)
    try:
        created: Detector = detector_class(name)(n_series, **parameters)
    except TypeError as error:
        raise ModelError(f"detector {name!r} does not accept {parameters}: {error}") from error
    return created


def detector_class(name: str) -> type:
    """Return the class of a detector name. Raises UnknownModelError."""
    if name in DETECTORS:
        built_in: type = _import_attribute(DETECTORS[name])
        return built_in
    for point in entry_points(group=DETECTOR_GROUP, name=name):
        loaded: type = point.load()
        return loaded
    raise UnknownModelError(
        f"{_unknown_name_message('detector', name, detector_names())}; "
        f"{RIVER_PREFIX}NAME selects river's detector"
    )


def forecaster_names() -> list[str]:
    """Return the names of all forecasters, built-in and from entry points, sorted.

    >>> "load" in forecaster_names()
    True
    """
    return sorted({*FORECASTERS, *entry_points(group=FORECASTER_GROUP).names})


def forecaster(name: str, **parameters: Any) -> Forecaster:  # noqa: ANN401 - parameters differ by member
    """Create a forecaster; "load" is the champion.

    parameters : constructor parameters of the forecaster

    Raises UnknownModelError for an unknown name and ModelError for a parameter that the forecaster does not
    accept.

    >>> sorted(forecaster("load").members)
    ['boosted', 'ridge', 'seasonal_naive']
    """
    factory: Callable[..., Forecaster]
    if name in FORECASTERS:
        factory = _import_attribute(FORECASTERS[name])
    else:
        points = list(entry_points(group=FORECASTER_GROUP, name=name))
        if not points:
            raise UnknownModelError(_unknown_name_message("forecaster", name, forecaster_names()))
        factory = points[0].load()
    try:
        return factory(**parameters)
    except TypeError as error:
        raise ModelError(f"forecaster {name!r} does not accept {parameters}: {error}") from error


def _import_attribute(reference: str) -> Any:  # noqa: ANN401 - a class or a factory
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def _unknown_name_message(kind: str, name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Available: {', '.join(names)}"
