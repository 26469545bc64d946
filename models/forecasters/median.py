"""Weighted median of several forecasters."""

from collections.abc import Mapping, Sequence

import numpy as np

from trimtab.models.contracts import Floats, Forecaster, HasFeatures, Panel, State
from trimtab.models.errors import ModelError, StateError
from trimtab.models.forecasting.quantile_levels import check_quantiles, nan_median


class Median:
    """Median of the members' forecasts, quantile by quantile; members that give NaN are left out.

    members : name -> forecaster; the state of a member is stored under its name
    votes   : name -> weight, an integer; 1 by default

    Lichtendahl, Grushka-Cockayne and Winkler, Is It Better to Average Probabilities or Quantiles?,
    Management Science 59, 2013.
    """

    def __init__(self, members: Mapping[str, Forecaster], votes: Mapping[str, int] | None = None) -> None:
        self.members = dict(members)
        self.votes = dict(votes or {})

    @property
    def features(self) -> tuple[str, ...]:
        """Features of the members, as `member/feature`."""
        return tuple(
            f"{name}/{feature}"
            for name, member in self.members.items()
            if isinstance(member, HasFeatures)
            for feature in member.features
        )

    def fit(self, panel: Panel) -> None:
        """Fit every member."""
        for member in self.members.values():
            member.fit(panel)

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series) forecasts, not negative where the panel excludes it.

        NaN where no member has a forecast. Raises ModelError for invalid quantiles or a horizon below 1.
        """
        levels = check_quantiles(quantiles)
        if horizon < 1:
            raise ModelError(f"horizon is {horizon}; must be at least 1 step")
        out = self._predict_median(panel, horizon, levels)
        return np.where(panel.non_negative, np.maximum(out, 0.0), out)

    def _predict_median(self, panel: Panel, horizon: int, levels: Sequence[float]) -> Floats:
        """Return the median; run the other members only where a majority member gives NaN."""
        majority = self._majority_member()
        if majority is None:
            return self._median_of_members({}, panel, horizon, levels)
        out = self.members[majority].predict(panel, horizon, levels)
        missing = np.flatnonzero(~np.isfinite(out).all(axis=(0, 1)))
        if len(missing):
            out[..., missing] = self._median_of_members(
                {majority: out[..., missing]}, panel.select(missing), horizon, levels
            )
        return np.sort(out, axis=0)

    def _majority_member(self) -> str | None:
        """Return the member with more votes than all others together, if any."""
        votes = {name: self.votes.get(name, 1) for name in self.members}
        return next((name for name, count in votes.items() if 2 * count > sum(votes.values())), None)

    def _median_of_members(
        self, known: Mapping[str, Floats], panel: Panel, horizon: int, levels: Sequence[float]
    ) -> Floats:
        forecasts: list[Floats] = []
        for name, member in self.members.items():
            forecast = known[name] if name in known else member.predict(panel, horizon, levels)
            forecasts += [forecast] * self.votes.get(name, 1)
        return np.sort(nan_median(np.stack(forecasts)), axis=0)

    def state(self) -> State:
        """Return the arrays of all members, as `member/array`."""
        return {f"{name}/{k}": v for name, member in self.members.items() for k, v in member.state().items()}

    def restore(self, state: State) -> None:
        """Replace the state of all members. Raises StateError, and changes nothing, if it does not fit."""
        parts: dict[str, State] = {name: {} for name in self.members}
        for key, array in state.items():
            name, _, field = key.partition("/")
            if name not in parts:
                raise StateError(f"the state has {key!r}; the members are {', '.join(parts)}")
            parts[name][field] = array
        before = self.state()
        try:
            for name, member in self.members.items():
                member.restore(parts[name])
        except StateError:
            if before:
                self.restore(before)
            raise
