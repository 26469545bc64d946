"""The champion load forecaster: the weighted median of three forecasters."""

from trimtab.models.contracts import Forecaster
from trimtab.models.forecasters.boosted import Boosted
from trimtab.models.forecasters.median import Median
from trimtab.models.forecasters.ridge import Ridge
from trimtab.models.forecasters.seasonal_naive import SeasonalNaive


def load_forecaster(longest_s: float = 86_400.0) -> Median:
    """Create the weighted median of seasonal naive, ridge and boosted trees.

    longest_s : longest horizon in seconds

    The boosted trees correct the ridge forecasts and are more accurate than the plain median of the three, so
    they have the majority of the votes. The others decide where no trees could be trained. A member gives NaN
    for series too short for it; see `trimtab.models.forecasting.confidence`.
    """
    members: dict[str, Forecaster] = {
        "seasonal_naive": SeasonalNaive(),
        "ridge": Ridge(longest_s),
        "boosted": Boosted(longest_s),
    }
    return Median(members, votes={"boosted": 3})
