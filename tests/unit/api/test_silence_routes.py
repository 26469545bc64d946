"""Silence routes: creation, listing, end and validation."""

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND, START
from trimtab.engine.types import Silence

PATH = "/api/silences"
HOUR = "2026-01-01T01:00:00Z"


@pytest.fixture
def api():
    """Return an API without silences."""
    return ApiHarness(loop=True)


async def test_silence_is_created_listed_and_ended(api):
    """A silence begins now by default; its creation and end are audited."""
    client = api.key_client("approve", "read")
    body = {"entities": ["redis/*"], "until": HOUR, "note": "moving it"}
    response = await client.post(PATH, json=body)
    created = response.json()
    assert response.status_code == 201
    assert (created["entities"], created["from"], created["until"], created["note"], created["state"]) == (
        ["redis/*"], "2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00.000Z", "moving it", "active",
    )  # fmt: skip
    assert (await client.get(PATH)).json()["items"] == [created]
    api.clock.tick(60)
    ended = (await client.delete(f"{PATH}/{created['id']}")).json()
    assert (ended["until"], ended["state"]) == ("2026-01-01T00:01:00.000Z", "over")
    assert (await client.get(PATH)).json()["items"] == []
    assert (await client.get(f"{PATH}?over=true")).json()["items"] == [ended]
    assert_problem(await client.delete(f"{PATH}/{created['id']}"), 409, "over already")
    assert [row.what for row in api.loop.ledger.rows] == ["silenced", "silence ended"]


async def test_a_future_silence_is_coming(api):
    """A silence with a future `from` begins later; a repeated Idempotency-Key creates it once."""
    client = api.key_client("approve", "read")
    body = {"entities": ["web"], "from": "2026-01-01T00:30:00Z", "until": HOUR}
    for _ in range(2):
        response = await client.post(PATH, json=body, headers={"Idempotency-Key": "k"})
        assert (response.status_code, response.json()["state"]) == (201, "coming")
    assert len((await client.get(PATH)).json()["items"]) == 1


async def test_configured_silences_are_listed(api):
    """Silences of the settings are listed and cannot be ended by the API."""
    configured = Silence("settings/nights", ("*",), START, START + 60 * SECOND, "settings")
    object.__setattr__(api.app.state.context.loop_ports, "configured_silences", lambda: [configured])
    client = api.key_client("approve", "read")
    (found,) = (await client.get(PATH)).json()["items"]
    assert (found["id"], found["by"]) == ("settings/nights", "settings")
    assert_problem(await client.delete(f"{PATH}/settings%2Fnights"), 404)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"until": "2025-12-31T00:00:00Z"}, "not after"),
        ({"from": HOUR}, "not after from"),
        ({"until": "2030-01-01T00:00:00Z"}, "more than a year"),
        ({"until": "tomorrow"}, "not a time"),
        ({"entities": ["  "]}, "1 to 50 names"),
        ({"entities": []}, "entities"),
    ],
)  # fmt: skip
async def test_invalid_silences_are_refused(api, changed, words):
    """An invalid silence gets 422, and nothing is stored."""
    response = await api.key_client("approve").post(
        PATH, json={"entities": ["web"], "until": HOUR, **changed}
    )
    assert_problem(response, 422, words)
    assert api.loop.ledger.rows == []


async def test_a_silence_that_cannot_be_stored_is_refused(api):
    """If the audit cannot be written, no silence is created."""
    api.loop.ledger.broken = "disk full"
    response = await api.key_client("approve").post(PATH, json={"entities": ["web"], "until": HOUR})
    assert_problem(response, 503, "disk full")
    assert api.loop.ledger.silences() == []
