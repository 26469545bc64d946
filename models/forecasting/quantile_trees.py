"""Gradient-boosted quantile trees as plain arrays: trained by LightGBM, stored and predicted without it.

Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS 2017. A model loaded from a
registry consists of arrays only and runs no code. Compared with scikit-learn's HistGradientBoosting with the
same settings (150,000 rows of 33 loads, one origin, one thread), the median takes 2.3 s instead of 3.2 s of
CPU at a loss of 0.838 instead of 0.837 relative to seasonal naive; quantile 0.99 takes 1.5 s instead of 2.0 s
at 0.973 instead of 0.990.
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
"""A node goes left if `feature` <= `threshold`, NaN goes left if `nan_left`. A node with feature -1 is a leaf
whose value is in `threshold`. roots : (n_quantiles, n_trees) first node of each tree.
"""
PARAMETERS = {
    "objective": "quantile", "num_leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 100, "max_bin": 63,
    "feature_fraction": 0.7, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 1.0, "seed": 1,
    "deterministic": True, "force_row_wise": True, "feature_pre_filter": False, "verbose": -1,
}  # fmt: skip

OUTER_QUANTILES, OUTER_MIN_LEAF_ROWS = (0.05, 0.95), 1000
"""Quantiles at and beyond OUTER_QUANTILES use trees with 7 leaves of this many rows; larger trees overfit.

On 33 loads at 5 origins, 31 leaves of 100 rows left 0.027 instead of 0.021 of a day's values above q0.99, at
a loss of 0.93 instead of 0.91 relative to seasonal naive; 7 leaves of 300 rows were worse than both (0.95).
"""
MAX_THREADS = 4
"""More threads are no faster on this number of rows; the number of threads does not change the trees."""
MEDIAN_TREE_FACTOR = 2
"""The median has this multiple of trees: its relative error over a day is 0.777 instead of 0.786."""


def train(x: Floats, y: Floats, quantiles: Sequence[float], trees: int) -> State:
    """Train one boosted model per quantile; return them as the arrays of ARRAY_TYPES.

    x : (n_rows, n_features), NaN = not known
    y : (n_rows,)

    Raises ModelError if LightGBM cannot be loaded: its wheel needs the system's OpenMP library.
    """
    try:
        import lightgbm
    except OSError as error:
        raise ModelError(f"LightGBM cannot be loaded: {error}; install OpenMP (Debian: libgomp1)") from error
    dataset_parameters = {name: PARAMETERS[name] for name in ("max_bin", "feature_pre_filter", "verbose")}
    rows = lightgbm.Dataset(x, y, params=dataset_parameters, free_raw_data=False)
    boosters = [
        lightgbm.train(lightgbm_parameters(q, len(y)), rows, trees * (MEDIAN_TREE_FACTOR if q == 0.5 else 1))
        for q in quantiles
    ]
    return _to_arrays([booster.dump_model()["tree_info"] for booster in boosters])


def lightgbm_parameters(quantile: float, n_rows: int) -> dict[str, Any]:
    """Return LightGBM's parameters for one quantile, with smaller leaves if there are few rows.

    >>> [lightgbm_parameters(0.99, n)["min_data_in_leaf"] for n in (150_000, 6_000)]
    [1000, 40]
    """
    parameters = {**PARAMETERS, "alpha": quantile, "num_threads": min(get_num_threads(), MAX_THREADS)}
    if OUTER_QUANTILES[0] < quantile < OUTER_QUANTILES[1]:
        return parameters
    rows = min(max(n_rows * OUTER_MIN_LEAF_ROWS // 150_000, 20), OUTER_MIN_LEAF_ROWS)
    return parameters | {"num_leaves": 7, "min_data_in_leaf": rows}


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
    index = len(nodes)
    if "leaf_value" in node and "split_feature" not in node:
        nodes.append((-1, index, index, True, float(node["leaf_value"])))
        return index
    if node["decision_type"] != "<=":
        raise StateError(f"a tree splits by {node['decision_type']!r}; only '<=' is supported")
    threshold = float(node["threshold"])
    has_default = node["missing_type"] == "NaN"
    nan_left = bool(node["default_left"]) if has_default else threshold >= 0.0
    nodes.append((int(node["split_feature"]), -1, -1, nan_left, threshold))
    left, right = _append_node(nodes, node["left_child"]), _append_node(nodes, node["right_child"])
    nodes[index] = (nodes[index][0], left, right, nan_left, threshold)
    return index


def check_trees(state: State, n_quantiles: int, n_features: int) -> None:
    """Raise StateError unless the arrays are valid trees: every child has a higher index than its parent."""
    for name, kind in ARRAY_TYPES.items():
        if name not in state or state[name].dtype != kind:
            raise StateError(
                f"trees: array {name!r} of {np.dtype(kind)} is missing; the state has {sorted(state)}"
            )
    n = len(state["feature"])
    if any(state[name].shape != (n,) for name in list(ARRAY_TYPES)[:-1]) or state["roots"].ndim != 2:
        raise StateError("trees: the node arrays have different lengths")
    feature, roots = state["feature"].astype(np.int64), state["roots"].astype(np.int64)
    at, values = np.arange(n), state["threshold"].astype(np.float64)
    inner = feature >= 0
    children = np.stack([state["left"], state["right"]]).astype(np.int64)[:, inner]
    if (children <= at[inner]).any() or (children >= n).any() or (feature >= n_features).any():
        raise StateError("trees: a node has an invalid child or feature index")
    if len(roots) != n_quantiles or (roots >= n).any() or not np.isfinite(values).all():
        raise StateError(f"trees: expected {n_quantiles} rows of roots below {n}, and finite thresholds")


def predict(state: State, x: Floats) -> Floats:
    """Return (n_quantiles, n_rows): the sum over the trees of each quantile.

    x : (n_rows, n_features), NaN = not known
    """
    out = np.empty((len(state["roots"]), len(x)))
    _sum_trees(
        np.ascontiguousarray(x), state["feature"], state["left"], state["right"], state["nan_left"],
        state["threshold"], state["roots"], out,
    )  # fmt: skip
    return out


@njit(cache=True, parallel=True)
def _sum_trees(x, feature, left, right, nan_left, threshold, roots, out):
    """Kernel: walk every tree for every row and add the leaf values."""
    for r in prange(x.shape[0]):
        for q in range(roots.shape[0]):
            total = 0.0
            for k in range(roots.shape[1]):
                node = roots[q, k]
                if node < 0:
                    continue
                while feature[node] >= 0:
                    value = x[r, feature[node]]
                    goes_left = nan_left[node] if np.isnan(value) else value <= threshold[node]
                    node = left[node] if goes_left else right[node]
                total += threshold[node]
            out[q, r] = total
