import threading

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import anomaly_of
from trimtab.engine.api.idempotency import _exclusive
from trimtab.engine.errors import ConflictError
from trimtab.engine.types import SeriesKey

ANOMALY = "01JGFJJZ000000000000000000"
FEEDBACK = f"/api/anomalies/{ANOMALY}/feedback"
AGAIN = {"Idempotency-Key": "5b1f"}


@pytest.fixture
def api():
    """An API with one anomaly to write about."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


async def test_a_repeated_post_does_nothing_new(api):
    """The same key and body get the first answer again, and nothing is written."""
    person = api.key_client("propose")
    first = await person.post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN)
    api.store.feedback_by_key.clear()
    api.clock.tick(60)
    second = await person.post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN)
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert api.store.feedback_by_key == {}


async def test_the_same_key_with_another_body_is_refused(api):
    """A key that is used for something else is a mistake of the caller, and said so."""
    person = api.key_client("propose")
    await person.post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN)
    answer = await person.post(FEEDBACK, json={"verdict": "wrong"}, headers=AGAIN)
    assert_problem(answer, 422, "another body")


async def test_keys_of_two_callers_do_not_meet(api):
    """Somebody else's Idempotency-Key, even the same one, gives nothing of the first caller's answer away."""
    for _ in range(2):
        answer = await api.key_client("propose").post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN)
        assert "idempotency-replayed" not in answer.headers
    assert len(api.store.feedback_by_key) == 2


async def test_a_failed_post_is_not_remembered(api):
    """An error may be tried again with the same key."""
    person = api.key_client("propose")
    del api.store.by_id[ANOMALY]
    assert_problem(await person.post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN), 404)
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    assert (await person.post(FEEDBACK, json={"verdict": "right"}, headers=AGAIN)).status_code == 201


async def test_the_secret_of_a_new_key_is_never_stored(api):
    """A repeated call shows the key that was made, without its secret: the store does not know it."""
    admin = api.key_client("admin")
    body = {"name": "grafana", "scopes": ["read"]}
    first = (await admin.post("/api/keys", json=body, headers=AGAIN)).json()
    second = (await admin.post("/api/keys", json=body, headers=AGAIN)).json()
    assert second == {**first, "secret": None}
    assert first["secret"].encode() not in b"".join(answer for _, answer in api.store.responses.values())


@pytest.mark.parametrize("key", ["", "x" * 201, "with space"])
async def test_a_key_of_another_form_is_refused(api, key):
    """An Idempotency-Key is 1 to 200 visible characters."""
    answer = await api.key_client("propose").post(
        FEEDBACK, json={"verdict": "right"}, headers={"Idempotency-Key": key}
    )
    assert_problem(answer, 422, "dempotency")


def test_two_calls_at_once_do_not_both_work():
    """While the first call runs, a second one with its key is told to come back."""
    with _exclusive(1, "key", "POST /x"):
        seen = []

        def second():
            with pytest.raises(ConflictError, match="still running"), _exclusive(1, "key", "POST /x"):
                pass
            seen.append(True)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert seen == [True]
    with _exclusive(1, "key", "POST /x"):
        pass
