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
# From the history that your Prometheus has to a load model that your engine serves. `PROMETHEUS_URL` says
# where the server is; write the selector of a load of yours. Two weeks of history are enough, two days a
# beginning.

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
# The `data_dir` is that of the engine that is to serve the model, such as `~/.local/share/trimtab`. As long
# as you only look, a folder of the notebook's own does.

# %%
data_dir = Path(os.environ.get("TRIMTAB_SETTINGS__DATA_DIR") or mkdtemp(prefix="trimtab-"))

# %% [markdown]
# ## The history

# %%
loads = trimtab.history(url, selector, since="14d", step="5m")
loads.groupby("unique_id")["y"].describe().round(1)

# %% [markdown]
# ## What is known of it without training
#
# `trimtab.forecast` learns from the table that it is given and keeps nothing.

# %%
trimtab.plot_forecast(loads, trimtab.forecast(loads, "24h"))

# %% [markdown]
# ## Train and judge
#
# `LoadJob()` is what an engine trains: steps of 5 minutes, a day ahead, judged on the last three days. All
# is logged to MLflow, in the data folder or at the server that `uri=` names. The gate lets it pass where it
# is no worse than the champion and than the seasonal naive forecast.

# %%
trained = registry.train(selector, loads, data_dir=data_dir, job=LoadJob())
print(trained.run.said)
pd.DataFrame({who: figures.as_dict() for who, figures in trained.figures.items()}).T.round(3)

# %% [markdown]
# ## Promote
#
# Now it is the champion of the registry. The engine of this data folder takes it over within ten minutes,
# says so in its audit, and goes back to the one before when it is told to (`/api/models/load/rollback`).
# Without a notebook `trimtab retrain --history SELECTOR` does all of this, and the engine does it once a
# day by itself.

# %%
if trained.verdict.passed:
    registry.promote(trained.version, data_dir=data_dir)
registry.versions(data_dir=data_dir).round(3)

# %% [markdown]
# ## What it says
#
# The champion, as the engine serves it at `/api/forecasts`.

# %%
trimtab.plot_forecast(loads, registry.forecast(loads, data_dir=data_dir))
