"""Capacity routes for operators and autoscalers; unknown capacity is an error, never a number."""

from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.shapes.examples import CAPACITY


@pytest.fixture
def api():
    """Return an API with one known and one unknown capacity."""
    api = ApiHarness(loop=True)
    unknown = replace(
        CAPACITY, name="mail", wanted=None, why="unknown", problem="the newest sample is too old"
    )
    api.loop.capacity.update({"mail": unknown, "checkout": CAPACITY})
    return api


async def test_capacities_are_listed_by_name(api):
    """Each capacity has its wanted replicas and the reason; an unknown capacity is null with its problem."""
    checkout, mail = (await api.key_client("read").get("/api/capacity")).json()["items"]
    assert (checkout["wanted"], checkout["why"], checkout["time"]) == (
        6,
        "forecast",
        "2026-01-01T00:00:00.000Z",
    )
    assert checkout["capacity_per_replica"] == {
        "value": 120.0,
        "low": 114.0,
        "high": 127.0,
        "source": "learnt",
    }
    assert (mail["wanted"], mail["problem"]) == (None, "the newest sample is too old")


async def test_capacity_has_its_forecast_path(api):
    """A single capacity has the forecast load and the load that the wanted replicas can serve."""
    found = (await api.key_client("read").get("/api/capacity/checkout")).json()["path"]
    assert len(found["ahead_s"]) == len(found["high"]) == len(found["likely"]) == len(found["serves"]) == 3


async def test_autoscaler_gets_the_wanted_replicas(api):
    """The field `wanted`, KEDA's valueLocation, holds the number of replicas."""
    response = await api.key_client("read").get("/api/capacity/checkout/keda")
    assert response.json() == {"name": "checkout", "wanted": 6}


async def test_an_autoscaler_gets_a_503_for_unknown_capacity(api):
    """Unknown capacity gets 503 with its reason, never 0."""
    response = await api.key_client("read").get("/api/capacity/mail/keda")
    assert_problem(response, 503, "mail", "too old")
    assert response.headers["retry-after"] == "15"


async def test_an_unknown_name_is_not_found(api):
    """A name that is not configured gets 404 with the route that lists names."""
    for path in ("/api/capacity/nothing", "/api/capacity/nothing/keda"):
        assert_problem(await api.key_client("read").get(path), 404, "nothing", "/api/capacity")


async def test_a_key_needs_the_scope_read(api):
    """A key with only the scope ingest gets no capacity."""
    for path in ("/api/capacity", "/api/capacity/checkout", "/api/capacity/checkout/keda"):
        assert_problem(await api.key_client("ingest").get(path), 403)
