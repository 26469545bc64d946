"""Name -> model. A member is loaded when it is first asked for, never before.

To add one: a file in `detectors/` or `forecasters/` and a line here; from a package of your own: an entry
point in the group `trimtab.detectors` or `trimtab.forecasters`, `my_name = "my_package.module:Class"`.
A name of ours wins over an entry point's.
"""

from collections.abc import Callable, Iterable
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
"""`load` is the champion: the median of the others."""


def detector_names() -> list[str]:
    """Every detector that can be asked for by name, sorted.

    >>> "ew_zscore" in detector_names()
    True
    """
    return sorted({*DETECTORS, *entry_points(group=DETECTOR_GROUP).names})


def detector(name: str, n_series: int, **parameters: Any) -> Detector:  # noqa: ANN401 - each member has its own
    """A fresh detector for n_series series; "river:NAME" is river's own detector of that name.

    Raises UnknownModelError for a name that nobody has, ModelError for a parameter that the detector
    does not know or a value that it does not take.

    >>> detector("ew_zscore", n_series=1000, fading_factor=0.05).n_series
    1000
    """
    if name.startswith(RIVER_PREFIX):
        from trimtab.models.river_bank import river_detector

        return river_detector(n_series, name.removeprefix(RIVER_PREFIX), name, **parameters)
    try:
        made: Detector = detector_class(name)(n_series, **parameters)
    except TypeError as error:
        raise ModelError(f"detector {name!r} does not take {parameters}: {error}") from error
    return made


def detector_class(name: str) -> type:
    """The class behind a name. Raises UnknownModelError."""
    if name in DETECTORS:
        found: type = _import_attribute(DETECTORS[name])
        return found
    for point in entry_points(group=DETECTOR_GROUP, name=name):
        loaded: type = point.load()
        return loaded
    raise UnknownModelError(
        f"{_unknown_name_message('detector', name, detector_names())}; {RIVER_PREFIX}NAME is river's own"
    )


def forecaster_names() -> list[str]:
    """Every forecaster that can be asked for by name, sorted.

    >>> "load" in forecaster_names()
    True
    """
    return sorted({*FORECASTERS, *entry_points(group=FORECASTER_GROUP).names})


def forecaster(name: str, **parameters: Any) -> Forecaster:  # noqa: ANN401 - each member has its own
    """A fresh forecaster; "load" is the champion.

    Raises UnknownModelError for a name that nobody has, ModelError for a parameter that the forecaster
    does not know.

    >>> sorted(forecaster("load").members)
    ['boosted', 'ridge', 'seasonal_naive']
    """
    make: Callable[..., Forecaster]
    if name in FORECASTERS:
        make = _import_attribute(FORECASTERS[name])
    else:
        points = list(entry_points(group=FORECASTER_GROUP, name=name))
        if not points:
            raise UnknownModelError(_unknown_name_message("forecaster", name, forecaster_names()))
        make = points[0].load()
    try:
        return make(**parameters)
    except TypeError as error:
        raise ModelError(f"forecaster {name!r} does not take {parameters}: {error}") from error


def _import_attribute(line: str) -> Any:  # noqa: ANN401 - a class, or what makes one
    module, _, attribute = line.partition(":")
    return getattr(import_module(module), attribute)


def _unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    there = list(known)
    close = get_close_matches(name, there, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no {kind} is called {name!r}.{hint} There are: {', '.join(there)}"
