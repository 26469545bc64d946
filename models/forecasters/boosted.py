"""Gradient-boosted models of what simple forecasts leave, for all series together."""

from collections.abc import Iterator, Sequence

import numpy as np

from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.errors import StateError
from trimtab.models.forecasting import quantile_trees
from trimtab.models.forecasting.baselines import STARTS, TOLD, Seen, joined, seen, start_units, starts, told
from trimtab.models.forecasting.cold_start import YoungPool
from trimtab.models.forecasting.linear_stage import ORIGINS, Fitted, LinearStage, bucket_rows, newest, pool_of
from trimtab.models.forecasting.panel_features import History, history_of
from trimtab.models.forecasting.quantile_levels import LEVELS, between, check_quantiles, median_of_known
from trimtab.models.forecasting.tail_widening import widen

TREES = 100
MOST_ROWS, EACH_ROWS = 150_000, 60_000
"""Rows taken from all series; as many of them, drawn anew, as the trees of one start learn from.

Of the same 60,000 for all starts the error over a day was .752 of the naive one, drawn anew .747; of all
150,000 .743, in more than twice the time.
"""
FAR = "far"
"""The highest level comes from the linear start alone, and from all rows.

So its loss over an hour was .749 and .796 of the naive one at two sets of origins, that of the median of the
starts .779 and .814; over a day alike.
"""
NEED_ROWS = 2_000
"""Fewer rows teach no trees."""


class Boosted:
    """Quantile trees on scale-free features, fitted to the errors of several simple forecasts; their median.

    longest_s : horizon that the buckets reach, in seconds
    trees     : boosting rounds a quantile

    See `trimtab.models.forecasting.baselines` for what they start from. A series with less than a day of
    history gets the pooled forecast of `trimtab.models.forecasting.cold_start`.
    """

    features: tuple[str, ...] = TOLD
    """The columns of what the trees are told."""

    def __init__(self, longest_s: float = 86_400.0, trees: int = TREES) -> None:
        self.longest_s = longest_s
        self.trees = trees
        self.stage = LinearStage(longest_s)
        self.young = YoungPool(longest_s)
        self.ensembles: dict[str, State] = {}

    def fit(self, panel: Panel) -> None:
        """Learn the trees, and what young series do."""
        history = pool_of(panel)
        self.stage.fit(history)
        self.young.fit(history)
        self.ensembles = {}
        taught = self._training(history)
        if taught is None or len(taught[0].linear) < NEED_ROWS:
            return
        known, value, units = taught
        draw = np.random.default_rng(1)
        each = starts(known.robust, known.linear)
        for name, start, unit in zip(STARTS, each, units, strict=True):
            some = draw.permutation(len(value))[:EACH_ROWS]
            self.ensembles[name] = self._trees(known, value, start, unit, some, LEVELS[:-1])
        every = np.arange(len(value))
        self.ensembles[FAR] = self._trees(known, value, each[0], units[0], every, LEVELS[-1:])

    def _trees(
        self, known: Seen, value: Floats, start: Floats, unit: Floats, some: Ints, levels: tuple[float, ...]
    ) -> State:
        x = told(known.rows(some), start[some], unit[some])
        return quantile_trees.train(x, (value[some] - start[some]) / unit[some], levels, self.trees)

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series); NaN below half an hour of history.

        Raises ModelError before `fit`.
        """
        wanted = check_quantiles(quantiles)
        history = history_of(panel.y, panel.end, panel.step_s, panel.events)
        out = np.full((len(LEVELS), horizon, panel.y.shape[1]), np.nan)
        buckets = self.stage.buckets(horizon, panel.step_s)
        if self.ensembles:
            for begin, part in self.stage.chunks(history):
                for bucket in buckets:
                    fitted = self.stage.own(part, bucket)
                    if fitted is not None:
                        steps = bucket_rows(bucket)
                        out[:, steps - 1, begin : begin + len(part.y)] = self._later(part, fitted, steps)
        out = widen(out, history)
        is_young = history.length < history.day
        out[:, :, is_young] = np.nan
        if is_young.any():
            out[:, :, is_young] = self.young.predict(history.pick(np.flatnonzero(is_young)), horizon)
        return between(out, LEVELS, wanted) + history.middle

    def _training(self, history: History) -> tuple[Seen, Floats, Floats] | None:
        """Rows of all buckets thinned to MOST_ROWS, what came, and the units (len(STARTS), n_rows)."""
        parts = list(self._taught(history))
        if not parts:
            return None
        known, value, units = zip(*parts, strict=True)
        return joined(list(known)), np.concatenate(value), np.concatenate(units, axis=1)

    def _taught(self, history: History) -> Iterator[tuple[Seen, Floats, Floats]]:
        buckets = self.stage.buckets(1 << 40, history.step_s)
        share = MOST_ROWS / max(len(history.y) * len(buckets) * ORIGINS, 1)
        thin = np.random.default_rng(0)
        for _, part in self.stage.chunks(history):
            for bucket in buckets:
                fitted = self.stage.own(part, bucket)
                if fitted is None:
                    continue
                thinned = thin.random(fitted.errors.shape) < share
                series, row = np.nonzero(np.isfinite(fitted.errors) & thinned)
                of = fitted.rows
                known = seen(
                    part, fitted, of.x[series, row], fitted.held_out[series, row], series,
                    of.now[series, row], of.ahead[series, row],
                )  # fmt: skip
                yield known, fitted.value[series, row], start_units(part, fitted)[:, series]

    def _later(self, history: History, fitted: Fitted, steps: Ints) -> Floats:
        """(n_levels, n_steps, n_series) of one bucket, about the series' middle."""
        n, h = len(history.y), len(steps)
        x = newest(history, steps)
        linear = fitted.forecast(history, steps, x).ravel()
        series, ahead, now = np.repeat(np.arange(n), h), np.tile(steps, n), np.full(n * h, history.steps - 1)
        known = seen(history, fitted, x.reshape(n * h, -1), linear, series, now, ahead)
        units = start_units(history, fitted)[:, series]
        begin = starts(known.robust, known.linear)
        about = [told(known, start, unit) for start, unit in zip(begin, units, strict=True)]
        each = [
            begin[k] + units[k] * quantile_trees.predict(self.ensembles[name], about[k])
            for k, name in enumerate(STARTS)
        ]
        far = begin[0] + units[0] * quantile_trees.predict(self.ensembles[FAR], about[0])
        out = np.concatenate([median_of_known(np.stack(each)), far])
        return np.asarray(out.reshape(-1, n, h).transpose(0, 2, 1), np.float64)

    def state(self) -> State:
        """Shared coefficients, young series, trees: arrays only."""
        made = {f"stage.{k}": v for k, v in self.stage.state().items()}
        made |= {f"young.{k}": v for k, v in self.young.state().items()}
        for name, ensemble in self.ensembles.items():
            made |= {f"{name}.{k}": v.copy() for k, v in ensemble.items()}
        return made

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        levels = dict.fromkeys(STARTS, len(LEVELS) - 1) | {FAR: 1}
        parts: dict[str, State] = {name: {} for name in ("stage", "young", *levels)}
        for key, array in state.items():
            name, _, field = key.partition(".")
            if name not in parts:
                raise StateError(f"boosted: {key!r} is none of its arrays")
            parts[name][field] = array
        stage, young = LinearStage(self.longest_s), YoungPool(self.longest_s)
        stage.restore(parts["stage"])
        young.restore(parts["young"])
        trees = {name: parts[name] for name in levels}
        if not any(trees.values()):
            trees = {}
        for name, ensemble in trees.items():
            quantile_trees.check(ensemble, levels[name], len(TOLD))
        self.stage, self.young = stage, young
        self.ensembles = {name: {k: v.copy() for k, v in one.items()} for name, one in trees.items()}
