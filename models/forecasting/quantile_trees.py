"""Gradient-boosted quantile trees as plain arrays: trained by LightGBM, stored and predicted without it.

Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS 2017. A model read from a
registry is numbers in arrays and nothing that could run. Against scikit-learn's HistGradientBoosting with the
same settings, 150,000 rows of 33 loads, one origin, one thread: the median 2.3 s of CPU against 3.2 s and a
loss over a day of .838 against .837 of the naive one; 0.99 1.5 s against 2.0 s and .973 against .990.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from trimtab.models.contracts import Floats, State
from trimtab.models.errors import ModelError, StateError

ARRAY_TYPES = {
    "feature": np.int32, "left": np.int32, "right": np.int32, "nan_left": np.bool_, "threshold": np.float64,
    "roots": np.int32,
}  # fmt: skip
"""A node asks `feature` <= `threshold`, NaN goes left where nan_left; feature -1 is a leaf whose value stands
in `threshold`. roots : (n_quantiles, n_trees) the first node of each tree."""
PARAMETERS = {
    "objective": "quantile", "num_leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 100, "max_bin": 63,
    "feature_fraction": 0.7, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 1.0, "seed": 1,
    "deterministic": True, "force_row_wise": True, "feature_pre_filter": False, "verbose": -1,
}  # fmt: skip

OUTER_QUANTILES, OUTER_MIN_LEAF_ROWS = (0.05, 0.95), 1000
"""Quantiles at and beyond these have trees of 7 leaves of so many rows: larger ones learn the rows by heart.

On 33 loads at 5 origins, 31 leaves of 100 rows against these: above q0.99 lay .027 against .021 of a day's
values, its loss was .93 against .91 of the naive one; 7 leaves of 300 rows were worse than both (.95).
"""
MAX_THREADS = 4
"""More gain nothing on so few rows; how many there are changes no tree."""
MEDIAN_TREE_FACTOR = 2
"""The median has so many times the trees: its error over a day is .777 of the naive one, else .786."""


def train(x: Floats, y: Floats, quantiles: Sequence[float], trees: int) -> State:
    """One boosted model a quantile, as the arrays of FIELDS.

    x : (n_rows, n_features), NaN = not known
    y : (n_rows,)

    Raises ModelError where LightGBM cannot be loaded: its wheel needs OpenMP of the system.
    """
    try:
        import lightgbm
    except OSError as error:
        raise ModelError(f"LightGBM cannot be loaded: {error}; install OpenMP (Debian: libgomp1)") from error
    of_rows = {name: PARAMETERS[name] for name in ("max_bin", "feature_pre_filter", "verbose")}
    rows = lightgbm.Dataset(x, y, params=of_rows, free_raw_data=False)
    boosters = [
        lightgbm.train(lightgbm_parameters(q, len(y)), rows, trees * (MEDIAN_TREE_FACTOR if q == 0.5 else 1))
        for q in quantiles
    ]
    return _to_arrays([booster.dump_model()["tree_info"] for booster in boosters])


def lightgbm_parameters(quantile: float, n_rows: int) -> dict[str, Any]:
    """LightGBM's parameters for one quantile; leaves of fewer rows where there are few.

    >>> lightgbm_parameters(0.99, 150_000)["min_data_in_leaf"], lightgbm_parameters(0.99, 6_000)["min_data_in_leaf"]
    (1000, 40)
    """
    given = {**PARAMETERS, "alpha": quantile, "num_threads": min(get_num_threads(), MAX_THREADS)}
    if OUTER_QUANTILES[0] < quantile < OUTER_QUANTILES[1]:
        return given
    rows = min(max(n_rows * OUTER_MIN_LEAF_ROWS // 150_000, 20), OUTER_MIN_LEAF_ROWS)
    return given | {"num_leaves": 7, "min_data_in_leaf": rows}


def _to_arrays(models: list[list[dict[str, Any]]]) -> State:
    nodes: list[tuple[int, int, int, bool, float]] = []
    longest = max(len(model) for model in models)
    roots = np.full((len(models), longest), -1, np.int32)
    for k, model in enumerate(models):
        for j, tree in enumerate(model):
            roots[k, j] = _append_node(nodes, tree["tree_structure"])
    columns = zip(*nodes, strict=True)
    kinds = list(ARRAY_TYPES.items())[:-1]
    state: State = {name: np.array(col, kind) for (name, kind), col in zip(kinds, columns, strict=True)}
    return state | {"roots": roots}


def _append_node(nodes: list[tuple[int, int, int, bool, float]], node: dict[str, Any]) -> int:
    at = len(nodes)
    if "leaf_value" in node and "split_feature" not in node:
        nodes.append((-1, at, at, True, float(node["leaf_value"])))
        return at
    if node["decision_type"] != "<=":
        raise StateError(f"a tree splits by {node['decision_type']!r}; wanted '<='")
    threshold = float(node["threshold"])
    by_default = node["missing_type"] == "NaN"
    nan_left = bool(node["default_left"]) if by_default else threshold >= 0.0
    nodes.append((int(node["split_feature"]), -1, -1, nan_left, threshold))
    left, right = _append_node(nodes, node["left_child"]), _append_node(nodes, node["right_child"])
    nodes[at] = (nodes[at][0], left, right, nan_left, threshold)
    return at


def check_trees(state: State, n_quantiles: int, n_features: int) -> None:
    """Raise StateError unless these arrays are trees that end: every child stands behind its parent."""
    for name, kind in ARRAY_TYPES.items():
        if name not in state or state[name].dtype != kind:
            raise StateError(f"trees: no array {name!r} of {np.dtype(kind)}; there are {sorted(state)}")
    n = len(state["feature"])
    if any(state[name].shape != (n,) for name in list(ARRAY_TYPES)[:-1]) or state["roots"].ndim != 2:
        raise StateError("trees: the arrays of nodes have different lengths")
    feature, roots = state["feature"].astype(np.int64), state["roots"].astype(np.int64)
    at, values = np.arange(n), state["threshold"].astype(np.float64)
    inner = feature >= 0
    children = np.stack([state["left"], state["right"]]).astype(np.int64)[:, inner]
    if (children <= at[inner]).any() or (children >= n).any() or (feature >= n_features).any():
        raise StateError("trees: a node leads to no later node, or asks for a feature that is not there")
    if len(roots) != n_quantiles or (roots >= n).any() or not np.isfinite(values).all():
        raise StateError(f"trees: wanted {n_quantiles} rows of roots within {n} nodes, and finite numbers")


def predict(state: State, x: Floats) -> Floats:
    """(n_quantiles, n_rows) sums over the trees of each quantile."""
    out = np.empty((len(state["roots"]), len(x)))
    _sum_trees(
        np.ascontiguousarray(x), state["feature"], state["left"], state["right"], state["nan_left"],
        state["threshold"], state["roots"], out,
    )  # fmt: skip
    return out


@njit(cache=True, parallel=True)
def _sum_trees(x, feature, left, right, nan_left, threshold, roots, out):
    """The kernel: walk every tree for every row."""
    for r in prange(x.shape[0]):
        for q in range(roots.shape[0]):
            whole = 0.0
            for k in range(roots.shape[1]):
                at = roots[q, k]
                if at < 0:
                    continue
                while feature[at] >= 0:
                    value = x[r, feature[at]]
                    goes = nan_left[at] if np.isnan(value) else value <= threshold[at]
                    at = left[at] if goes else right[at]
                whole += threshold[at]
            out[q, r] = whole
