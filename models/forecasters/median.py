"""The median of several forecasters: each errs in a way of its own."""

from collections.abc import Mapping, Sequence

import numpy as np

from trimtab.models.contracts import Floats, Forecaster, HasFeatures, Panel, State
from trimtab.models.errors import ModelError, StateError
from trimtab.models.forecasting.quantile_levels import check_quantiles, nan_median


class Median:
    """Quantile by quantile the median of what the members say; those that say nothing are left out.

    members : name -> forecaster; a member's arrays are stored under its name
    votes   : name -> how many times a member counts; 1 where it is not named

    Lichtendahl, Grushka-Cockayne and Winkler, Is It Better to Average Probabilities or Quantiles?,
    Management Science 59, 2013.
    """

    def __init__(self, members: Mapping[str, Forecaster], votes: Mapping[str, int] | None = None) -> None:
        self.members = dict(members)
        self.votes = dict(votes or {})

    @property
    def features(self) -> tuple[str, ...]:
        """Those of its members, as `member/feature`."""
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
        """(n_quantiles, horizon, n_series); never below zero where the panel says so. Raises ModelError."""
        wanted = check_quantiles(quantiles)
        if horizon < 1:
            raise ModelError(f"horizon is {horizon}; wanted at least 1 step")
        out = self._predict_median(panel, horizon, wanted)
        return np.where(panel.non_negative, np.maximum(out, 0.0), out)

    def _predict_median(self, panel: Panel, horizon: int, wanted: Sequence[float]) -> Floats:
        """The median; where the member with most of the votes speaks, nobody else is asked."""
        decides = self._majority_member()
        if decides is None:
            return self._median_of_members({}, panel, horizon, wanted)
        out = self.members[decides].predict(panel, horizon, wanted)
        left = np.flatnonzero(~np.isfinite(out).all(axis=(0, 1)))
        if len(left):
            out[..., left] = self._median_of_members(
                {decides: out[..., left]}, panel.select(left), horizon, wanted
            )
        return np.sort(out, axis=0)

    def _majority_member(self) -> str | None:
        """Who has more votes than all others together."""
        votes = {name: self.votes.get(name, 1) for name in self.members}
        return next((name for name, many in votes.items() if 2 * many > sum(votes.values())), None)

    def _median_of_members(
        self, said: Mapping[str, Floats], panel: Panel, horizon: int, wanted: Sequence[float]
    ) -> Floats:
        each: list[Floats] = []
        for name, member in self.members.items():
            one = said[name] if name in said else member.predict(panel, horizon, wanted)
            each += [one] * self.votes.get(name, 1)
        return np.sort(nan_median(np.stack(each)), axis=0)

    def state(self) -> State:
        """The arrays of all members, as `member/array`."""
        return {f"{name}/{k}": v for name, member in self.members.items() for k, v in member.state().items()}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        parts: dict[str, State] = {name: {} for name in self.members}
        for key, array in state.items():
            name, _, field = key.partition("/")
            if name not in parts:
                raise StateError(f"the state holds {key!r}, but the members are {', '.join(parts)}")
            parts[name][field] = array
        before = self.state()
        try:
            for name, member in self.members.items():
                member.restore(parts[name])
        except StateError:
            if before:
                self.restore(before)
            raise
