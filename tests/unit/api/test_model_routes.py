"""Forecasts, models and pipeline runs over the API."""

import numpy as np
import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.shapes.examples import FORECAST, PIPELINE_RUN
from trimtab.models.forecasting.confidence import confidence


@pytest.fixture
def api():
    """An API with one model and one forecast."""
    return ApiHarness(loop=True)


async def test_forecasts_are_found_by_series_and_unknown_rows_are_null(api):
    """A forecast is listed with ISO times and a list a quantile; another series has none."""
    api.loop.models.current_forecasts[0].values["0.5"][1] = np.nan
    page = (await api.key_client("read").get("/api/forecasts", params={"series": FORECAST.id})).json()
    (one,) = page["items"]
    assert one["made"] == "2026-01-01T00:00:00.000Z"
    assert one["start"] == "2026-01-01T00:05:00.000Z"
    assert one["values"]["0.5"] == [120.0, None]
    assert one["confidence"] == confidence(one["past_s"]).word == "good"
    assert page["next"] is None
    other = await api.key_client("read").get("/api/forecasts", params={"series": "0" * 32})
    assert other.json()["items"] == []
    assert_problem(await api.key_client("read").get("/api/forecasts", params={"series": "x"}), 422)


async def test_past_forecasts_are_served(api):
    """The rows of a series with the time before which each was forecast; empty where nothing is kept."""
    client = api.key_client("read")
    kept = (await client.get(f"/api/forecasts/{FORECAST.id}/before")).json()
    assert kept["lead_s"] == 3600.0
    assert kept["times"] == ["2025-12-31T23:55:00.000Z", "2026-01-01T00:00:00.000Z"]
    assert kept["values"]["0.5"] == [118.0, 121.0]
    none = (await client.get(f"/api/forecasts/{'0' * 32}/before")).json()
    assert (none["times"], none["values"]) == ([], {})
    assert_problem(await client.get("/api/forecasts/x/before"), 422)


async def test_models_are_promoted_and_rolled_back_by_name(api):
    """Versions are listed with figures; who promotes is known; what is not there is 404, no way back 409."""
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


async def test_a_run_is_started_once_for_a_key(api):
    """A POST answers 202 with the run; with the same Idempotency-Key nothing is begun again."""
    client = api.key_client("read", "execute")
    for _ in range(2):
        answer = await client.post("/api/pipelines/load/runs", headers={"Idempotency-Key": "a"})
        assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    assert len(api.loop.models.calls) == 1
    runs = (await client.get("/api/pipelines/load/runs")).json()
    assert [run["id"] for run in runs["items"]] == [PIPELINE_RUN.id]
    assert_problem(await client.get("/api/pipelines/policy/runs"), 404)


async def test_without_forecasts_the_routes_say_why(api):
    """Where schedulers.load is switched off they answer 503."""
    api.loop.models = None
    api.start()
    assert_problem(await api.key_client("read").get("/api/forecasts"), 503, "schedulers.load")
