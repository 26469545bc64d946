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
# You have recorded metrics and want to know where they behave unlike themselves. This notebook makes a small
# recording (a week of a web service, with one incident), scores it, looks at it, and then asks other
# detectors for their opinion: members of the catalogue and any detector of [river](https://riverml.xyz).
#
# With recordings of your own, begin at *Score it*: `pandas.read_csv("cpu.csv")` is all that it takes, or
# `trimtab.history("http://localhost:9090", 'up{job="x"}', since="14d")` for series that Prometheus has.

# %%
import numpy as np
import pandas as pd
from river import anomaly, preprocessing

import trimtab
from trimtab.models.catalogue import detector_names

# %% [markdown]
# ## A recording
#
# Latency and load of a service, one row in five minutes for a week. The seed makes it the same each time.
# On Saturday from 14:00 a dependency gets slow: the latency climbs for forty minutes while the load
# stays as it is. On Sunday the load falls to nothing for a quarter of an hour.

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
# Each row is scored from the rows before it only, as it would have been live. `anomaly_score` has one scale
# for all series and detectors: above 1 is rarer than one false alarm a week. It is empty while a
# series is being learnt. `yhat` with `yhat_lower` and `yhat_upper` is what was expected, in the series' unit.

# %%
scored = trimtab.score(recording)
scored[scored["anomaly_score"] > 1].round(2)

# %%
trimtab.plot(scored)

# %% [markdown]
# One stretch of it, closer:

# %%
saturday = scored["ds"].between("2026-03-07 06:00+00:00", "2026-03-07 22:00+00:00")
trimtab.plot(scored[saturday], "latency_ms")

# %% [markdown]
# ## Fewer false alarms
#
# The one setting is how many false alarms a healthy series may give in a week. With fewer, scores fall.

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
# The catalogue has more of them, each as fast as the default. Beside `"default"` they join the vote; alone
# they replace it.

# %%
detector_names()

# %%
trimtab.plot(trimtab.score(recording, detectors=["default", "half_space_trees"]), "latency_ms")

# %% [markdown]
# ## Any river detector
#
# A river anomaly detector, a pipeline that ends in one, or a forecaster is cloned for each series, and its
# scores are brought to the same scale. It is slower: one Python object a series. Half-space trees want
# values from 0 to 1, so a scaler stands before them.

# %%
deviation = anomaly.StandardAbsoluteDeviation()
by_river = trimtab.score(recording, detectors=deviation)
trimtab.plot(by_river, "latency_ms")

# %%
trees = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=144, seed=1)
together = trimtab.score(recording, detectors=["default", trees, deviation])
together[together["anomaly_score"] > 1].groupby("unique_id")["anomaly_score"].describe().round(2)

# %% [markdown]
# ## One table, a column a series
#
# The same recording wide: a score for each column, and one for the service as a whole. Many series a little
# out add up in it, and asking more series does not give more false alarms.

# %%
wide = recording.pivot_table(index="ds", columns="unique_id", values="y").reset_index()
service = trimtab.score(wide)
service.loc[service["anomaly_score"] > 1].round(2)
