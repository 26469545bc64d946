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
# # 01 Score a recording
#
# This notebook finds anomalies in recorded metrics. It generates a small recording (one week of a web service
# with one incident), scores it, plots the scores, and compares other detectors: those of the catalogue and
# any detector of [river](https://riverml.xyz).
#
# To use your own recording, start at *Score it*: load it with `pandas.read_csv("cpu.csv")`, or with
# `trimtab.history("http://localhost:9090", 'up{job="x"}', since="14d")` for series in Prometheus.

# %%
import numpy as np
import pandas as pd
from river import anomaly, preprocessing

import trimtab
from trimtab.models.catalogue import detector_names

# %% [markdown]
# ## A recording
#
# Latency and load of a service, one row every five minutes for a week, with a fixed seed. On Saturday at
# 14:00 a dependency slows down: the latency rises for forty minutes while the load does not change. On Sunday
# the load drops to zero for a quarter of an hour.

# %%
rng = np.random.default_rng(11)
ds = pd.date_range("2026-03-02", periods=7 * 288, freq="5min", tz="UTC")
day = np.sin(2 * np.pi * (np.arange(len(ds)) / 288 - 0.3))

requests = rng.poisson(220 + 90 * day).astype(float)
latency = 80 + 25 * day + rng.gamma(4.0, 3.0, len(ds))

slow = (ds >= "2026-03-07 14:00+00:00") & (ds < "2026-03-07 14:40+00:00")
latency[slow] += np.linspace(40, 260, slow.sum())
down = (ds >= "2026-03-08 09:30+00:00") & (ds < "2026-03-08 09:45+00:00")
requests[down] = 0

recording = pd.concat(
    [
        pd.DataFrame({"unique_id": "latency_ms", "ds": ds, "y": latency}),
        pd.DataFrame({"unique_id": "requests_per_second", "ds": ds, "y": requests}),
    ],
    ignore_index=True,
)
recording.head()

# %% [markdown]
# ## Score it
#
# Each score depends on earlier rows only, as in live operation. `anomaly_score` has the same scale for all
# series and detectors: a score above 1 is rarer than one false alarm per week. It is NaN while the detector
# learns a series. `yhat`, `yhat_lower` and `yhat_upper` are the expected value and band, in the unit of the
# series.

# %%
scored = trimtab.score(recording)
scored[scored["anomaly_score"] > 1].round(2)

# %%
trimtab.plot(scored)

# %% [markdown]
# The incident in detail:

# %%
saturday = scored["ds"].between("2026-03-07 06:00+00:00", "2026-03-07 22:00+00:00")
trimtab.plot(scored[saturday], "latency_ms")

# %% [markdown]
# ## Fewer false alarms
#
# The only setting is the number of false alarms allowed per healthy series and week. A lower number gives
# lower scores.

# %%
strict = trimtab.score(recording, false_alarms_per_week=0.1)
pd.DataFrame(
    {
        "one a week": (scored["anomaly_score"] > 1).groupby(scored["unique_id"]).sum(),
        "one in ten weeks": (strict["anomaly_score"] > 1).groupby(strict["unique_id"]).sum(),
    }
)

# %% [markdown]
# ## Other detectors
#
# The catalogue contains more detectors, each as fast as the default. Listed together with `"default"` they
# are combined with it; listed alone they replace it.

# %%
detector_names()

# %%
trimtab.plot(trimtab.score(recording, detectors=["default", "half_space_trees"]), "latency_ms")

# %% [markdown]
# ## Any river detector
#
# A river anomaly detector, a pipeline that ends in one, or a forecaster is cloned for each series, and its
# scores are converted to the same scale. It is slower, because each series has its own Python object.
# Half-space trees need values from 0 to 1, so a scaler precedes them.

# %%
deviation = anomaly.StandardAbsoluteDeviation()
by_river = trimtab.score(recording, detectors=deviation)
trimtab.plot(by_river, "latency_ms")

# %%
trees = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=144, seed=1)
together = trimtab.score(recording, detectors=["default", trees, deviation])
together[together["anomaly_score"] > 1].groupby("unique_id")["anomaly_score"].describe().round(2)

# %% [markdown]
# ## Wide tables
#
# The same recording with one column per series: each column gets a score, and so does the service as a whole.
# Several slightly anomalous series add up in the service's score, and more series do not cause more false
# alarms.

# %%
wide = recording.pivot_table(index="ds", columns="unique_id", values="y").reset_index()
service = trimtab.score(wide)
service.loc[service["anomaly_score"] > 1].round(2)
