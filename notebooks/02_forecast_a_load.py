# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Forecast a load
#
# This notebook forecasts recorded loads (requests, connections, jobs in a queue). It generates a small
# recording, forecasts it, backtests the forecast against other models, and then registers two models:
# Trimtab's own and one from scikit-learn.
#
# To use your own loads, start at *Forecast it* with any table that has the columns `unique_id`, `ds` and `y`.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor

import trimtab
from trimtab.pipelines import registry
from trimtab.pipelines.train_load import LoadJob

# %% [markdown]
# ## A recording
#
# Hourly requests of six shops for three weeks, with a fixed seed. Each shop has its own level, busy hours and
# quieter weekends; bursts occur at random.

# %%
rng = np.random.default_rng(12)
ds = pd.date_range("2026-03-02", periods=21 * 24, freq="1h", tz="UTC")
hour, weekend = np.asarray(ds.hour), np.asarray(ds.dayofweek) >= 5

shops = []
for k in range(6):
    course = 1 + 0.6 * np.sin(2 * np.pi * (hour - 9 - k / 2) / 24) - 0.25 * weekend
    bursts = rng.binomial(1, 0.01, len(ds)) * rng.gamma(3, 0.1, len(ds))
    requests = rng.poisson(90 * (k + 1) * (course + bursts))
    shops.append(pd.DataFrame({"unique_id": f"shop {k}", "ds": ds, "y": requests}))

loads = pd.concat(shops, ignore_index=True)
loads.head()

# %% [markdown]
# ## Forecast it
#
# The forecast is a set of quantiles: the load exceeds `q0.9` one time in ten. Its confidence depends on the
# length of the history.

# %%
ahead = trimtab.forecast(loads, "24h")
ahead.head().round(1)

# %%
ahead.attrs["confidence"]["shop 0"]

# %%
trimtab.plot_forecast(loads, ahead, ["shop 0", "shop 3"])

# %% [markdown]
# With only two days of history the bands are wider and the confidence is low:

# %%
young = loads[loads["ds"] >= "2026-03-21"]
unsure = trimtab.forecast(young, "24h")
print(unsure.attrs["confidence"]["shop 0"])
trimtab.plot_forecast(young, unsure, "shop 0")

# %% [markdown]
# ## Backtest it
#
# Each of the last three days is forecast from the data before it. Errors are in units of the error of a
# seasonal naive forecast (the same hour of the previous day): below 1 is better than seasonal naive. 90 % of
# the values should be between `q0.05` and `q0.95` (`cov90`), and 1 % above `q0.99` (`miss99`).
#
# A scikit-learn regressor takes part: its input is the features of
# `trimtab.pipelines.forecasting.regression_features`, and its errors on later days give its quantiles.

# %%
mine = RandomForestRegressor(30, min_samples_leaf=20, random_state=0)
trimtab.backtest_forecast(
    loads,
    {"load": "load", "ridge": "ridge", "seasonal naive": "seasonal_naive", "mine": mine},
    step="1h",
).round(3)

# %% [markdown]
# ## Train the pooled model
#
# `train` fits Trimtab's model on all series together, compares it on the last days with the seasonal naive
# forecast and with the champion, if there is one, logs the run to MLflow and registers the model. A model
# that passes the promotion gate becomes the *challenger*. Pass the `data_dir` of your engine (or the `uri` of
# its MLflow server); this notebook uses a temporary folder.

# %%
here = {
    "data_dir": Path(mkdtemp(prefix="trimtab-")),
    "job": LoadJob(step_s=3600, horizon=24, window_s=21 * 86_400),
    "trusted": ("sklearn.tree._tree.Tree",),
}
print(registry.train("shops", loads, **here).run.said)

# %% [markdown]
# ## Submit a model of your own
#
# `submit` does the same with your model. A model that is much worse than the seasonal naive forecast fails
# the gate, and the result states why.

# %%
print(registry.submit(DummyRegressor(), "shops", loads, **here).run.said)

# %% [markdown]
# No model in the registry can execute code. Types that are not known to be safe, such as the trees of
# scikit-learn, must be trusted by name, here and in the engine's settings (`registry: {trusted_types:
# [sklearn.tree._tree.Tree]}`).

# %%
submitted = registry.submit(mine, "shops", loads, **here)
print(submitted.run.said)

# %% [markdown]
# ## Promote it
#
# The last model that passed is the challenger; `promote` makes it the champion. An engine that uses this
# registry loads it within ten minutes, records the change in its audit log, and keeps the previous champion
# for a rollback.

# %%
registry.promote(submitted.version, data_dir=here["data_dir"])
registry.versions(data_dir=here["data_dir"]).round(3)

# %% [markdown]
# ## Forecast with the champion
#
# `registry.forecast` needs only access to the registry.

# %%
trimtab.plot_forecast(loads, registry.forecast(loads, **here), ["shop 0", "shop 3"])
