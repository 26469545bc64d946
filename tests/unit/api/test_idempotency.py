"""Idempotency-Key handling of POST requests."""

import threading

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import anomaly_of
from trimtab.engine.api.idempotency import _exclusive
from trimtab.engine.errors import ConflictError
from trimtab.engine.types import SeriesKey

ANOMALY = "01JGFJJZ000000000000000000"
FEEDBACK = f"/api/anomalies/{ANOMALY}/feedback"
HEADERS = {"Idempotency-Key": "5b1f"}


@pytest.fixture
def api():
    """Return an API with one anomaly."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


async def test_repeated_post_is_replayed(api):
    """The same key and body get the first response again, and nothing is written."""
    client = api.key_client("propose")
    first = await client.post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS)
    api.store.feedback_by_key.clear()
    api.clock.tick(60)
    second = await client.post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS)
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert api.store.feedback_by_key == {}


async def test_the_same_key_with_another_body_is_refused(api):
    """An Idempotency-Key reused with another body gets 422."""
    client = api.key_client("propose")
    await client.post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS)
    response = await client.post(FEEDBACK, json={"verdict": "wrong"}, headers=HEADERS)
    assert_problem(response, 422, "another body")


async def test_idempotency_keys_are_separate_by_caller(api):
    """The same Idempotency-Key of another caller does not replay the first response."""
    for _ in range(2):
        response = await api.key_client("propose").post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS)
        assert "idempotency-replayed" not in response.headers
    assert len(api.store.feedback_by_key) == 2


async def test_failed_post_is_not_stored(api):
    """A failed request can be retried with the same key."""
    client = api.key_client("propose")
    del api.store.by_id[ANOMALY]
    assert_problem(await client.post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS), 404)
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    assert (await client.post(FEEDBACK, json={"verdict": "right"}, headers=HEADERS)).status_code == 201


async def test_the_secret_of_a_new_key_is_never_stored(api):
    """A replayed key creation returns the key without its secret, which is not stored."""
    admin = api.key_client("admin")
    body = {"name": "grafana", "scopes": ["read"]}
    first = (await admin.post("/api/keys", json=body, headers=HEADERS)).json()
    second = (await admin.post("/api/keys", json=body, headers=HEADERS)).json()
    assert second == {**first, "secret": None}
    assert first["secret"].encode() not in b"".join(response for _, response in api.store.responses.values())


@pytest.mark.parametrize("key", ["", "x" * 201, "with space"])
async def test_malformed_idempotency_key_is_refused(api, key):
    """An Idempotency-Key is 1 to 200 visible characters."""
    response = await api.key_client("propose").post(
        FEEDBACK, json={"verdict": "right"}, headers={"Idempotency-Key": key}
    )
    assert_problem(response, 422, "dempotency")


def test_concurrent_request_with_the_same_key_is_refused():
    """While the first request runs, a second request with the same key raises ConflictError."""
    with _exclusive(1, "key", "POST /x"):
        refused = []

        def second():
            with pytest.raises(ConflictError, match="still running"), _exclusive(1, "key", "POST /x"):
                pass
            refused.append(True)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert refused == [True]
    with _exclusive(1, "key", "POST /x"):
        pass
