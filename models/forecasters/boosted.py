"""Gradient-boosted models of what simple forecasts leave, for all series together."""

from collections.abc import Iterator, Sequence

import numpy as np

from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.errors import StateError
from trimtab.models.forecasting import quantile_trees
from trimtab.models.forecasting.baselines import (
    BASELINES,
    TREE_FEATURES,
    TreeInputs,
    baseline_errors,
    baseline_forecasts,
    concatenate_inputs,
    make_tree_inputs,
    tree_features,
)
from trimtab.models.forecasting.cold_start import ColdStart
from trimtab.models.forecasting.linear_stage import (
    ORIGINS_PER_SERIES,
    BucketFit,
    LinearStage,
    bucket_steps,
    latest_features,
    pool_history,
)
from trimtab.models.forecasting.panel_features import History, build_history
from trimtab.models.forecasting.quantile_levels import (
    QUANTILE_LEVELS,
    check_quantiles,
    interpolate_quantiles,
    nan_median,
)
from trimtab.models.forecasting.tail_widening import widen_tails

DEFAULT_TREES = 100
MAX_ROWS, ROWS_PER_BASELINE = 150_000, 60_000
"""Rows taken from all series; as many of them, drawn anew, as the trees of one start learn from.

Of the same 60,000 for all starts the error over a day was .752 of the naive one, drawn anew .747; of all
150,000 .743, in more than twice the time.
"""
TAIL_ENSEMBLE = "far"
"""The highest level comes from the linear start alone, and from all rows.

So its loss over an hour was .749 and .796 of the naive one at two sets of origins, that of the median of the
starts .779 and .814; over a day alike.
"""
MIN_ROWS = 2_000
"""Fewer rows teach no trees."""


class Boosted:
    """Quantile trees on scale-free features, fitted to the errors of several simple forecasts; their median.

    longest_s : horizon that the buckets reach, in seconds
    trees     : boosting rounds a quantile

    See `trimtab.models.forecasting.baselines` for what they start from. A series with less than a day of
    history gets the pooled forecast of `trimtab.models.forecasting.cold_start`.
    """

    features: tuple[str, ...] = TREE_FEATURES
    """The columns of what the trees are told."""

    def __init__(self, longest_s: float = 86_400.0, trees: int = DEFAULT_TREES) -> None:
        self.longest_s = longest_s
        self.trees = trees
        self.linear_stage = LinearStage(longest_s)
        self.cold_start = ColdStart(longest_s)
        self.ensembles: dict[str, State] = {}

    def fit(self, panel: Panel) -> None:
        """Learn the trees, and what young series do."""
        history = pool_history(panel)
        self.linear_stage.fit(history)
        self.cold_start.fit(history)
        self.ensembles = {}
        taught = self._training_rows(history)
        if taught is None or len(taught[0].linear) < MIN_ROWS:
            return
        known, value, units = taught
        draw = np.random.default_rng(1)
        each = baseline_forecasts(known.robust, known.linear)
        for name, start, unit in zip(BASELINES, each, units, strict=True):
            some = draw.permutation(len(value))[:ROWS_PER_BASELINE]
            self.ensembles[name] = self._train_trees(known, value, start, unit, some, QUANTILE_LEVELS[:-1])
        every = np.arange(len(value))
        self.ensembles[TAIL_ENSEMBLE] = self._train_trees(
            known, value, each[0], units[0], every, QUANTILE_LEVELS[-1:]
        )

    def _train_trees(
        self,
        known: TreeInputs,
        value: Floats,
        start: Floats,
        unit: Floats,
        some: Ints,
        levels: tuple[float, ...],
    ) -> State:
        x = tree_features(known.select_rows(some), start[some], unit[some])
        return quantile_trees.train(x, (value[some] - start[some]) / unit[some], levels, self.trees)

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series); NaN below half an hour of history.

        Raises ModelError before `fit`.
        """
        wanted = check_quantiles(quantiles)
        history = build_history(panel.y, panel.end, panel.step_s, panel.events)
        out = np.full((len(QUANTILE_LEVELS), horizon, panel.y.shape[1]), np.nan)
        buckets = self.linear_stage.buckets(horizon, panel.step_s)
        if self.ensembles:
            for begin, part in self.linear_stage.chunks(history):
                for bucket in buckets:
                    fitted = self.linear_stage.fit_bucket(part, bucket)
                    if fitted is not None:
                        steps = bucket_steps(bucket)
                        out[:, steps - 1, begin : begin + len(part.y)] = self._predict_bucket(
                            part, fitted, steps
                        )
        out = widen_tails(out, history)
        is_young = history.length < history.steps_per_day
        out[:, :, is_young] = np.nan
        if is_young.any():
            out[:, :, is_young] = self.cold_start.predict(history.select(np.flatnonzero(is_young)), horizon)
        return interpolate_quantiles(out, QUANTILE_LEVELS, wanted) + history.mean

    def _training_rows(self, history: History) -> tuple[TreeInputs, Floats, Floats] | None:
        """Rows of all buckets thinned to MOST_ROWS, what came, and the units (len(STARTS), n_rows)."""
        parts = list(self._training_parts(history))
        if not parts:
            return None
        known, value, units = zip(*parts, strict=True)
        return concatenate_inputs(list(known)), np.concatenate(value), np.concatenate(units, axis=1)

    def _training_parts(self, history: History) -> Iterator[tuple[TreeInputs, Floats, Floats]]:
        buckets = self.linear_stage.buckets(1 << 40, history.step_s)
        share = MAX_ROWS / max(len(history.y) * len(buckets) * ORIGINS_PER_SERIES, 1)
        thin = np.random.default_rng(0)
        for _, part in self.linear_stage.chunks(history):
            for bucket in buckets:
                fitted = self.linear_stage.fit_bucket(part, bucket)
                if fitted is None:
                    continue
                thinned = thin.random(fitted.errors.shape) < share
                series, row = np.nonzero(np.isfinite(fitted.errors) & thinned)
                of = fitted.rows
                known = make_tree_inputs(
                    part, fitted, of.features[series, row], fitted.held_out[series, row], series,
                    of.origin[series, row], of.ahead[series, row],
                )  # fmt: skip
                yield known, fitted.actual[series, row], baseline_errors(part, fitted)[:, series]

    def _predict_bucket(self, history: History, fitted: BucketFit, steps: Ints) -> Floats:
        """(n_levels, n_steps, n_series) of one bucket, about the series' middle."""
        n, h = len(history.y), len(steps)
        x = latest_features(history, steps)
        linear = fitted.forecast(history, steps, x).ravel()
        series, ahead, now = (
            np.repeat(np.arange(n), h),
            np.tile(steps, n),
            np.full(n * h, history.n_steps - 1),
        )
        known = make_tree_inputs(history, fitted, x.reshape(n * h, -1), linear, series, now, ahead)
        units = baseline_errors(history, fitted)[:, series]
        begin = baseline_forecasts(known.robust, known.linear)
        about = [tree_features(known, start, unit) for start, unit in zip(begin, units, strict=True)]
        each = [
            begin[k] + units[k] * quantile_trees.predict(self.ensembles[name], about[k])
            for k, name in enumerate(BASELINES)
        ]
        far = begin[0] + units[0] * quantile_trees.predict(self.ensembles[TAIL_ENSEMBLE], about[0])
        out = np.concatenate([nan_median(np.stack(each)), far])
        return np.asarray(out.reshape(-1, n, h).transpose(0, 2, 1), np.float64)

    def state(self) -> State:
        """Shared coefficients, young series, trees: arrays only."""
        made = {f"stage.{k}": v for k, v in self.linear_stage.state().items()}
        made |= {f"young.{k}": v for k, v in self.cold_start.state().items()}
        for name, ensemble in self.ensembles.items():
            made |= {f"{name}.{k}": v.copy() for k, v in ensemble.items()}
        return made

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        levels = dict.fromkeys(BASELINES, len(QUANTILE_LEVELS) - 1) | {TAIL_ENSEMBLE: 1}
        parts: dict[str, State] = {name: {} for name in ("stage", "young", *levels)}
        for key, array in state.items():
            name, _, field = key.partition(".")
            if name not in parts:
                raise StateError(f"boosted: {key!r} is none of its arrays")
            parts[name][field] = array
        stage, young = LinearStage(self.longest_s), ColdStart(self.longest_s)
        stage.restore(parts["stage"])
        young.restore(parts["young"])
        trees = {name: parts[name] for name in levels}
        if not any(trees.values()):
            trees = {}
        for name, ensemble in trees.items():
            quantile_trees.check_trees(ensemble, levels[name], len(TREE_FEATURES))
        self.linear_stage, self.cold_start = stage, young
        self.ensembles = {name: {k: v.copy() for k, v in one.items()} for name, one in trees.items()}
