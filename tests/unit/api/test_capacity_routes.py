"""What is scaled, over HTTP: for people, and for autoscalers that must not take ignorance for a number."""

from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.shapes.examples import CAPACITY


@pytest.fixture
def api():
    """One capacity that is known, and one that is not."""
    api = ApiHarness(loop=True)
    unknown = replace(
        CAPACITY, name="mail", wanted=None, why="unknown", problem="the newest sample is too old"
    )
    api.loop.capacity.update({"mail": unknown, "checkout": CAPACITY})
    return api


async def test_all_are_listed_by_name(api):
    """Each has what is wanted, why, and what it rests on; what is unknown is null with its reason."""
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


async def test_one_has_a_picture(api):
    """The load ahead stands beside what the wanted replicas serve."""
    found = (await api.key_client("read").get("/api/capacity/checkout")).json()["path"]
    assert len(found["ahead_s"]) == len(found["high"]) == len(found["likely"]) == len(found["serves"]) == 3


async def test_an_autoscaler_gets_a_number(api):
    """KEDA's valueLocation `wanted` holds the count."""
    answer = await api.key_client("read").get("/api/capacity/checkout/keda")
    assert answer.json() == {"name": "checkout", "wanted": 6}


async def test_an_autoscaler_gets_a_503_for_unknown_capacity(api):
    """Ignorance is an error status with its reason, never 0."""
    answer = await api.key_client("read").get("/api/capacity/mail/keda")
    assert_problem(answer, 503, "mail", "too old")
    assert answer.headers["retry-after"] == "15"


async def test_an_unknown_name_is_not_found(api):
    """A name that nobody configured is a 404 that says where names are."""
    for path in ("/api/capacity/nothing", "/api/capacity/nothing/keda"):
        assert_problem(await api.key_client("read").get(path), 404, "nothing", "/api/capacity")


async def test_a_key_needs_the_scope_read(api):
    """A key that may only tell of samples sees no capacity."""
    for path in ("/api/capacity", "/api/capacity/checkout", "/api/capacity/checkout/keda"):
        assert_problem(await api.key_client("ingest").get(path), 403)
