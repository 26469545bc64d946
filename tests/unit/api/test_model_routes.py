"""Forecasts, models and pipeline runs over the API."""

import numpy as np
import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.shapes.examples import FORECAST, PIPELINE_RUN
from trimtab.models.forecasting.confidence import confidence


@pytest.fixture
def api():
    """Return an API with one model and one forecast."""
    return ApiHarness(loop=True)


async def test_forecasts_are_found_by_series_and_unknown_rows_are_null(api):
    """A forecast has ISO 8601 times and one list per quantile; a series without forecasts has none."""
    api.loop.models.current_forecasts[0].values["0.5"][1] = np.nan
    page = (await api.key_client("read").get("/api/forecasts", params={"series": FORECAST.id})).json()
    (forecast,) = page["items"]
    assert forecast["made"] == "2026-01-01T00:00:00.000Z"
    assert forecast["start"] == "2026-01-01T00:05:00.000Z"
    assert forecast["values"]["0.5"] == [120.0, None]
    assert forecast["confidence"] == confidence(forecast["past_s"]).word == "good"
    assert page["next"] is None
    other = await api.key_client("read").get("/api/forecasts", params={"series": "0" * 32})
    assert other.json()["items"] == []
    assert_problem(await api.key_client("read").get("/api/forecasts", params={"series": "x"}), 422)


async def test_past_forecasts_are_served(api):
    """Past forecasts have their times, values and lead in seconds; without any they are empty."""
    client = api.key_client("read")
    past = (await client.get(f"/api/forecasts/{FORECAST.id}/before")).json()
    assert past["lead_s"] == 3600.0
    assert past["times"] == ["2025-12-31T23:55:00.000Z", "2026-01-01T00:00:00.000Z"]
    assert past["values"]["0.5"] == [118.0, 121.0]
    empty = (await client.get(f"/api/forecasts/{'0' * 32}/before")).json()
    assert (empty["times"], empty["values"]) == ([], {})
    assert_problem(await client.get("/api/forecasts/x/before"), 422)


async def test_models_are_promoted_and_rolled_back_by_name(api):
    """Models are promoted and rolled back by name; an unknown one gets 404, no previous champion 409."""
    client = api.key_client("read", "approve")
    (model,) = (await client.get("/api/models")).json()["items"]
    assert (model["id"], model["serving"], model["versions"][0]["role"]) == ("load", "4", "champion")
    assert model["versions"][0]["figures"]["challenger.pinball"] == 0.31
    assert (await client.post("/api/models/load/promote", json={"version": "4"})).status_code == 200
    assert api.loop.models.calls[-1][:2] == ("promote", "4")
    assert_problem(await client.post("/api/models/load/promote", json={"version": "99"}), 404, "99")
    assert_problem(await client.post("/api/models/cpu/rollback"), 404)
    api.loop.models.has_previous = False
    assert_problem(await client.post("/api/models/load/rollback"), 409, "previous")


async def test_run_is_started_once_per_idempotency_key(api):
    """Starting a run gets 202; a repeated Idempotency-Key starts no second run."""
    client = api.key_client("read", "execute")
    for _ in range(2):
        response = await client.post("/api/pipelines/load/runs", headers={"Idempotency-Key": "a"})
        assert (response.status_code, response.json()["state"]) == (202, "waiting")
    assert len(api.loop.models.calls) == 1
    runs = (await client.get("/api/pipelines/load/runs")).json()
    assert [run["id"] for run in runs["items"]] == [PIPELINE_RUN.id]
    assert_problem(await client.get("/api/pipelines/policy/runs"), 404)


async def test_disabled_forecasts_are_unavailable(api):
    """With schedulers.load disabled, forecast routes get 503."""
    api.loop.models = None
    api.start()
    assert_problem(await api.key_client("read").get("/api/forecasts"), 503, "schedulers.load")
