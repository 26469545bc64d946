"""Windows excluded from training, and the share of samples they remove."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.builders.series import START
from trimtab.engine.forecasting.learning_exclusions import action_window, incident_window
from trimtab.engine.types import (
    Action,
    ActionState,
    Incident,
    IncidentState,
    Mode,
    SeriesInfo,
    SeriesKey,
    Severity,
)
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.training.excluded_windows import ExcludedWindow, exclude_windows

HOUR = 3600 * 10**9
HOURS = 100
CACHE = {"job": "redis", "instance": "cache-1:9121"}
KEYS = [
    SeriesKey.of("prometheus", "redis_connected_clients", CACHE),
    SeriesKey.of("prometheus", "redis_commands_total", CACHE),
    SeriesKey.of("prometheus", "http_requests_total", {"job": "shop", "instance": "web-1:80"}),
    SeriesKey.of("tools", "redis_connected_clients", {"tool": "redis", "target": "cache-1"}),
    SeriesKey.of("tools", "pm2_requests", {"tool": "pm2", "target": "cache-1"}),
]
INFOS = {str(key): SeriesInfo(key) for key in KEYS}
CLIENTS, COMMANDS, SHOP, TOOL_CLIENTS, OTHER = INFOS


def make_history():
    """Return two series with one sample per hour."""
    stamps = pd.DatetimeIndex((START + np.arange(HOURS) * HOUR).astype("datetime64[ns]"), tz="UTC")
    return pd.concat([pd.DataFrame({"unique_id": name, "ds": stamps, "y": 1.0}) for name in ("a", "b")])


@pytest.mark.parametrize(
    ("window", "missing"),
    [
        (ExcludedWindow("incident", START, START + 9 * HOUR, frozenset("a")), {"a": 10, "b": 0}),
        (ExcludedWindow("mass incident", START, START + 9 * HOUR), {"a": 10, "b": 10}),
        (ExcludedWindow("incident", START + 90 * HOUR, None, frozenset("b")), {"a": 0, "b": 10}),
        (ExcludedWindow("incident", START, None, frozenset("b")), {"a": 0, "b": 26}),
        (ExcludedWindow("incident", START, START + 9 * HOUR, frozenset("c")), {"a": 0, "b": 0}),
    ],
)
def test_only_the_series_of_a_window_are_excluded(window, missing):
    """A window removes its series' samples; an open one at most a quarter of the history."""
    remaining = exclude_windows(make_history(), [window], HOURS * 3600.0)
    assert remaining.frame.groupby("unique_id")["y"].agg(lambda y: y.isna().sum()).to_dict() == missing
    assert ("left out" in remaining.summary) == any(missing.values())
    assert ("still open" in remaining.summary) == (26 in missing.values())


def test_too_few_remaining_samples_are_refused():
    """Incidents over more than half of the samples raise an error with their number and what to do."""
    windows = [
        ExcludedWindow("incident", START + k * 20 * HOUR, START + (k * 20 + 15) * HOUR) for k in range(5)
    ]
    with pytest.raises(HistoryError, match=r"80.0 % of the samples are left out, for 5 incidents; wait"):
        exclude_windows(make_history(), windows, HOURS * 3600.0)


def make_incident(**changed):
    """Return an open incident of the cache."""
    incident = Incident(
        "01", START, None, IncidentState.OPEN, "", 0.5, Severity.LOW, user_facing=False, mass=False,
        entities=("redis/cache-1:9121",), anomaly_ids=(),
    )  # fmt: skip
    return replace(incident, **changed)


def test_incident_excludes_its_entities_and_mass_incident_all():
    """An incident excludes the series of its entities only; a mass incident excludes all series."""
    assert incident_window(make_incident(), {}, INFOS).series == {CLIENTS, COMMANDS}
    assert incident_window(make_incident(mass=True), {}, INFOS).series is None


@pytest.mark.parametrize(
    ("target", "series"), [("cache-1", {CLIENTS, COMMANDS, TOOL_CLIENTS}), ("db-7", None)]
)
def test_action_excludes_its_target_for_half_an_hour_more(target, series):
    """An action excludes its target and host for 30 minutes more, or all series if none match."""
    action = Action(
        "01", "key", None, "redis", target, "maxmemory", is_action=False, before=1, after=2, set_before=True,
        state=ActionState.KEPT, mode=Mode.APPROVE, by="anna",
        created=START, started=START, ended=START + HOUR,
    )  # fmt: skip
    window = action_window(action, INFOS)
    assert (window.start, window.end, window.series) == (START, START + HOUR * 3 // 2, series)
