"""The champion forecaster of a load, put together."""

from trimtab.models.contracts import Forecaster
from trimtab.models.forecasters.boosted import Boosted
from trimtab.models.forecasters.median import Median
from trimtab.models.forecasters.ridge import Ridge
from trimtab.models.forecasters.seasonal_naive import SeasonalNaive


def load_forecaster(longest_s: float = 86_400.0) -> Median:
    """The weighted median of seasonal naive, ridge and boosted trees, up to `longest_s` seconds ahead.

    The trees start from the ridge forecasts and err less than the plain median of the three, so they have
    most of the votes; the others decide where no trees could be trained. Each member says nothing where a
    series is too short for it: see `trimtab.models.forecasting.confidence`.
    """
    members: dict[str, Forecaster] = {
        "seasonal_naive": SeasonalNaive(),
        "ridge": Ridge(longest_s),
        "boosted": Boosted(longest_s),
    }
    return Median(members, votes={"boosted": 3})
