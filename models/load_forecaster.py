"""The champion forecaster of a load, put together."""

from trimtab.models.contracts import Forecaster
from trimtab.models.forecasters.boosted import Boosted
from trimtab.models.forecasters.median import Median
from trimtab.models.forecasters.ridge import Ridge
from trimtab.models.forecasters.seasonal_naive import SeasonalNaive


def load(longest_s: float = 86_400.0) -> Median:
    """The median of seasonal naive, ridge and boosted trees, for horizons up to `longest_s` seconds.

    Each member says nothing where a series is too short for it: see `trimtab.models.confidence`.
    """
    members: dict[str, Forecaster] = {
        "seasonal_naive": SeasonalNaive(),
        "ridge": Ridge(longest_s),
        "boosted": Boosted(longest_s),
    }
    return Median(members)
