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
# You have recorded loads (requests, connections, jobs in a queue) and want to know how they go on, how far
# to trust that, and whether a model of your own does better. This notebook makes a small recording,
# forecasts it, backtests the forecast, and then brings two models into the registry: one of scikit-learn,
# and Trimtab's own.
#
# With loads of your own, begin at *Forecast it*: any table with `unique_id`, `ds` and `y` will do.

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
# Requests of six shops, one row an hour for three weeks. Each has its own level, its own busy hours and a
# quieter weekend; bursts come without notice. The seed makes it the same each time.

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
# The forecast is not a line but a fan: `q0.9` is the load that is exceeded one time in ten. How sure it is
# depends on how much past there is.

# %%
ahead = trimtab.forecast(loads, "24h")
ahead.head().round(1)

# %%
ahead.attrs["confidence"]["shop 0"]

# %%
trimtab.plot_forecast(loads, ahead, ["shop 0", "shop 3"])

# %% [markdown]
# With two days of past only, it says less, and says so:

# %%
young = loads[loads["ds"] >= "2026-03-21"]
unsure = trimtab.forecast(young, "24h")
print(unsure.attrs["confidence"]["shop 0"])
trimtab.plot_forecast(young, unsure, "shop 0")

# %% [markdown]
# ## Backtest it
#
# Each of the last three days is forecast from what was known before it. Errors are in units of a seasonal
# naive forecast's (the same hour of the day before): below 1 is better than that. Of the values, 90 %
# should lie between `q0.05` and `q0.95` (`cov90`), and 1 % above `q0.99` (`miss99`).
#
# A scikit-learn regressor joins in: it is given the features of
# `trimtab.pipelines.forecasting.regression_features`, and its own errors on later days become its fan.

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
# `train` fits Trimtab's own model on all series together, judges it on the last days against the seasonal
# naive forecast and the champion, where there is one, logs all of it to MLflow and registers it. Where the
# gate lets it pass it becomes *challenger*. Give the `data_dir` of your engine (or the `uri` of its MLflow
# server); here it is a folder of the notebook's own.

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
# `submit` does the same with yours. What is much worse than the seasonal naive forecast does not pass, and is
# told why.

# %%
print(registry.submit(DummyRegressor(), "shops", loads, **here).run.said)

# %% [markdown]
# No model from the registry runs code of its own: types that are not known as harmless, such as the trees of
# scikit-learn, have to be trusted by name, here and in the engine's settings
# (`registry: {trusted_types: [sklearn.tree._tree.Tree]}`).

# %%
submitted = registry.submit(mine, "shops", loads, **here)
print(submitted.run.said)

# %% [markdown]
# ## Promote it
#
# The last one that passed is challenger. `promote` names it champion. An engine that has this registry takes
# it over within ten minutes, writes it into its audit, and keeps the champion before to go back to.

# %%
registry.promote(submitted.version, data_dir=here["data_dir"])
registry.versions(data_dir=here["data_dir"]).round(3)

# %% [markdown]
# ## Ask the champion
#
# From the registry, wherever you are.

# %%
trimtab.plot_forecast(loads, registry.forecast(loads, **here), ["shop 0", "shop 3"])
