"""Silences by the API: made, listed, ended, and refused where they make no sense."""

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND, START
from trimtab.engine.types import Silence

PATH = "/api/silences"
HOUR = "2026-01-01T01:00:00Z"


@pytest.fixture
def api():
    """A loop without silences."""
    return ApiHarness(loop=True)


async def test_a_silence_is_made_listed_and_ended(api):
    """From now on where nothing else is said; who made it and who ended it stand in the audit."""
    program = api.key_client("approve", "read")
    body = {"entities": ["redis/*"], "until": HOUR, "note": "moving it"}
    answer = await program.post(PATH, json=body)
    made = answer.json()
    assert answer.status_code == 201
    assert (made["entities"], made["from"], made["until"], made["note"], made["state"]) == (
        ["redis/*"], "2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00.000Z", "moving it", "active",
    )  # fmt: skip
    assert (await program.get(PATH)).json()["items"] == [made]
    api.clock.tick(60)
    ended = (await program.delete(f"{PATH}/{made['id']}")).json()
    assert (ended["until"], ended["state"]) == ("2026-01-01T00:01:00.000Z", "over")
    assert (await program.get(PATH)).json()["items"] == []
    assert (await program.get(f"{PATH}?over=true")).json()["items"] == [ended]
    assert_problem(await program.delete(f"{PATH}/{made['id']}"), 409, "over already")
    assert [row.what for row in api.loop.ledger.rows] == ["silenced", "silence ended"]


async def test_a_future_silence_is_coming(api):
    """With `from` it begins later; the same Idempotency-Key makes it once."""
    program = api.key_client("approve", "read")
    body = {"entities": ["web"], "from": "2026-01-01T00:30:00Z", "until": HOUR}
    for _ in range(2):
        answer = await program.post(PATH, json=body, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["state"]) == (201, "coming")
    assert len((await program.get(PATH)).json()["items"]) == 1


async def test_those_of_the_settings_are_listed_too(api):
    """With an id that says so: they end in the settings only."""
    fixed = Silence("settings/nights", ("*",), START, START + 60 * SECOND, "settings")
    object.__setattr__(api.app.state.context.loop_ports, "configured_silences", lambda: [fixed])
    program = api.key_client("approve", "read")
    (found,) = (await program.get(PATH)).json()["items"]
    assert (found["id"], found["by"]) == ("settings/nights", "settings")
    assert_problem(await program.delete(f"{PATH}/settings%2Fnights"), 404)


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
    """And nothing is kept of it."""
    answer = await api.key_client("approve").post(PATH, json={"entities": ["web"], "until": HOUR, **changed})
    assert_problem(answer, 422, words)
    assert api.loop.ledger.rows == []


async def test_a_silence_that_cannot_be_stored_is_refused(api):
    """Without an audit row there is no silence."""
    api.loop.ledger.broken = "disk full"
    answer = await api.key_client("approve").post(PATH, json={"entities": ["web"], "until": HOUR})
    assert_problem(answer, 503, "disk full")
    assert api.loop.ledger.silences() == []
