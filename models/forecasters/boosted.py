"""One gradient-boosted model of what the linear forecasts leave, for all series together."""

from collections.abc import Sequence

import numpy as np

from trimtab.models import quantile_trees
from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.errors import StateError
from trimtab.models.forecast_levels import LEVELS, between, check_quantiles
from trimtab.models.linear_pool import origin_level, weekday
from trimtab.models.linear_stage import (
    POOL_SERIES,
    Fitted,
    LinearStage,
    bucket_rows,
    known_quantiles,
    newest,
    spread_over,
)
from trimtab.models.panel_features import DAY_NS, VALUES, History, event_flags, history_of, target_times
from trimtab.models.robust_features import ROBUST, robust_features
from trimtab.models.tails import widen
from trimtab.models.young import YoungPool

_AT = {name: k for k, name in enumerate(VALUES)}
GAPS = (("level_1h", "past_day"), ("level_1h", "past_days"), ("level_1h", "past_week"), ("last", "level_1h"))
TAILS = (0.05, 0.25, 0.75, 0.95, 0.99)
CLOCK, EVENTS = ("log_ahead", "day", "weekday", "roughness"), ("event", "event_a_day_before")
N_FEATURES = len(VALUES) + len(GAPS) + len(CLOCK) + len(TAILS) + len(EVENTS) + len(ROBUST)
TREES = 100
MOST_ROWS = 150_000
NEED_ROWS = 2_000
"""Fewer rows teach no trees."""


class Boosted:
    """Quantile trees on scale-free features, fitted to the held-out errors of the linear forecasts.

    longest_s : horizon that the buckets reach, in seconds
    trees     : boosting rounds a quantile

    A series with less than a day of history gets the pooled forecast of `trimtab.models.young`.
    """

    def __init__(self, longest_s: float = 86_400.0, trees: int = TREES) -> None:
        self.longest_s = longest_s
        self.trees = trees
        self.stage = LinearStage(longest_s)
        self.young = YoungPool(longest_s)
        self.ensemble: State = {}

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of what the trees are told."""
        gaps = (f"{a}-{b}" for a, b in GAPS)
        tails = (f"error_q{level:g}" for level in TAILS)
        return (*VALUES, *gaps, *CLOCK, *tails, *EVENTS, *ROBUST)

    def fit(self, panel: Panel) -> None:
        """Learn the trees, and what young series do."""
        history = history_of(panel.y, panel.end, panel.step_s, panel.events)
        self.stage.fit(history)
        self.young.fit(history)
        self.ensemble = {}
        x, z = self._training(history.pick(spread_over(len(history.y), POOL_SERIES)))
        if len(z) >= NEED_ROWS:
            self.ensemble = quantile_trees.train(x, z, LEVELS, self.trees)

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series); NaN below half an hour of history.

        Raises ModelError before `fit`.
        """
        wanted = check_quantiles(quantiles)
        history = history_of(panel.y, panel.end, panel.step_s, panel.events)
        out = np.full((len(LEVELS), horizon, panel.y.shape[1]), np.nan)
        buckets = self.stage.buckets(horizon, panel.step_s)
        if self.ensemble:
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

    def _training(self, history: History) -> tuple[Floats, Floats]:
        """Features and held-out errors of all buckets, thinned to MOST_ROWS."""
        parts: list[tuple[Floats, Floats]] = []
        buckets = self.stage.buckets(1 << 40, history.step_s)
        share = MOST_ROWS / max(len(history.y) * len(buckets) * 400, 1)
        thin = np.random.default_rng(0)
        for _, part in self.stage.chunks(history):
            for bucket in buckets:
                fitted = self.stage.own(part, bucket)
                if fitted is None:
                    continue
                keep = np.isfinite(fitted.errors) & (thin.random(fitted.errors.shape) < share)
                rows = fitted.rows
                held = origin_level(rows.x) + fitted.own.held_out * fitted.scale[:, None]
                x = _describe(part, fitted, rows.x, held, rows.now, rows.ahead)
                parts.append((x[keep], fitted.errors[keep]))
        if not parts:
            return np.empty((0, N_FEATURES)), np.empty(0)
        return np.concatenate([x for x, _ in parts]), np.concatenate([z for _, z in parts])

    def _later(self, history: History, fitted: Fitted, steps: Ints) -> Floats:
        """(n_levels, n_steps, n_series) of one bucket, about the series' middle."""
        n, h = len(history.y), len(steps)
        x = newest(history, steps)
        middle = fitted.forecast(history, steps, x)
        ahead = np.broadcast_to(steps, (n, h))
        now = np.full((n, h), history.steps - 1)
        about = _describe(history, fitted, x, middle, now, ahead)
        z = quantile_trees.predict(self.ensemble, about.reshape(n * h, -1)).reshape(-1, n, h)
        return np.asarray((middle + z * fitted.unit[:, None]).transpose(0, 2, 1), np.float64)

    def state(self) -> State:
        """Shared coefficients, young series, trees: arrays only."""
        made = {f"stage.{k}": v for k, v in self.stage.state().items()}
        made |= {f"young.{k}": v for k, v in self.young.state().items()}
        return made | {f"trees.{k}": v.copy() for k, v in self.ensemble.items()}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        parts: dict[str, State] = {"stage": {}, "young": {}, "trees": {}}
        for key, array in state.items():
            name, _, field = key.partition(".")
            if name not in parts:
                raise StateError(f"boosted: {key!r} is none of its arrays")
            parts[name][field] = array
        stage, young = LinearStage(self.longest_s), YoungPool(self.longest_s)
        stage.restore(parts["stage"])
        young.restore(parts["young"])
        if parts["trees"]:
            quantile_trees.check(parts["trees"], len(LEVELS), N_FEATURES)
        self.stage, self.young = stage, young
        self.ensemble = {k: v.copy() for k, v in parts["trees"].items()}


def _describe(history: History, fitted: Fitted, x: Floats, middle: Floats, now: Ints, ahead: Ints) -> Floats:
    """What the trees are told, (n_series, n_rows, N_FEATURES).

    Where levels and lags stand about the linear forecast, in usual errors; how the series erred so far; how
    far ahead, and when; whether it is a known day.
    """
    unit, shape = fitted.unit[:, None], ahead.shape
    at = (np.repeat(np.arange(shape[0]), shape[1]), now.ravel(), ahead.ravel())
    times = target_times(history, *at).reshape(shape)
    events = event_flags(history, *at).reshape(*shape, 2)
    about = (x - middle[..., None]) / unit[..., None]
    gaps = np.stack([(x[..., _AT[a]] - x[..., _AT[b]]) / unit for a, b in GAPS], axis=-1)
    tails = np.broadcast_to(known_quantiles(fitted.errors, TAILS)[:, None, :], (*shape, len(TAILS)))
    rough = np.broadcast_to(np.log(fitted.scale[:, None] / unit), shape)
    clock = [np.log2(ahead * history.step_s), (times % DAY_NS) / DAY_NS, weekday(times), rough]
    robust = robust_features(history, now, ahead, middle, unit)
    return np.concatenate([about, gaps, np.stack(clock, axis=-1), tails, events, robust], axis=-1)
