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
# # 03 Train on your own Prometheus
#
# This notebook trains a load model on the history in your Prometheus, for your engine to serve. Set
# `PROMETHEUS_URL` to the address of the server, and `selector` to a load of yours. Two weeks of history are
# enough; two days are the minimum.

# %%
import os
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd

import trimtab
from trimtab.pipelines import registry
from trimtab.pipelines.train_load import LoadJob

url = os.environ.get("PROMETHEUS_URL", "http://localhost:9090")
selector = "sum by (app) (rate(http_requests_total[15m]))"

# %% [markdown]
# `data_dir` is the data folder of the engine that will serve the model, such as `~/.local/share/trimtab`.
# Without it, the notebook uses a temporary folder.

# %%
data_dir = Path(os.environ.get("TRIMTAB_SETTINGS__DATA_DIR") or mkdtemp(prefix="trimtab-"))

# %% [markdown]
# ## Read the history

# %%
loads = trimtab.history(url, selector, since="14d", step="5m")
loads.groupby("unique_id")["y"].describe().round(1)

# %% [markdown]
# ## Forecast without training
#
# `trimtab.forecast` learns from its input table and stores nothing.

# %%
trimtab.plot_forecast(loads, trimtab.forecast(loads, "24h"))

# %% [markdown]
# ## Train and evaluate
#
# `LoadJob()` has the defaults of an engine: steps of 5 minutes, a horizon of one day, evaluated on the last
# three days. The run is logged to MLflow, in the data folder or on the server at `uri=`. The model passes the
# gate if it is no worse than the champion and the seasonal naive forecast.

# %%
trained = registry.train(selector, loads, data_dir=data_dir, job=LoadJob())
print(trained.run.said)
pd.DataFrame({who: figures.as_dict() for who, figures in trained.figures.items()}).T.round(3)

# %% [markdown]
# ## Promote
#
# The next cell makes the model the champion in the registry. The engine of this data folder loads it within
# ten minutes, records the change in its audit log, and can roll back to the previous champion
# (`/api/models/load/rollback`). Without a notebook, `trimtab retrain --history SELECTOR` does the same; the
# engine also retrains once a day.

# %%
if trained.verdict.passed:
    registry.promote(trained.version, data_dir=data_dir)
registry.versions(data_dir=data_dir).round(3)

# %% [markdown]
# ## Forecast with the champion
#
# The engine serves the same forecast at `/api/forecasts`.

# %%
trimtab.plot_forecast(loads, registry.forecast(loads, data_dir=data_dir))
