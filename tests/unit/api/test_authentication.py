"""Authentication by key, session and login link; CSRF, origins and hosts."""

import pytest

from tests.builders.api_client import BASE, ApiHarness, assert_problem
from tests.builders.series import anomaly_of
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.security.authentication import COOKIE, FailureLimiter
from trimtab.engine.settings import Api
from trimtab.engine.types import SeriesKey

ANOMALY = "01JGFJJZ000000000000000000"
FEEDBACK = f"/api/anomalies/{ANOMALY}/feedback"
RIGHT = {"verdict": "right"}


@pytest.fixture
def api():
    """Return an API with one anomaly."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


@pytest.mark.parametrize(
    "header",
    [
        "Bearer tt_" + "x" * 43,  # well-formed but unknown
        "Bearer ",  # empty
        "Bearer short",
        "Basic YWRtaW46YWRtaW4=",  # another scheme
        "tt_" + "x" * 43,  # no scheme
        "Bearer \x7f\x80",  # not text
    ],
)
async def test_wrong_credentials_are_refused_without_repeating_them(api, header):
    """A wrong key gets 401 with the expected scheme, and the response does not contain the key."""
    response = await api.anonymous_client().get(
        "/api/status", headers={"Authorization": header.encode("latin-1")}
    )
    assert_problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "x" * 10 not in response.text


async def test_an_expired_key_is_refused(api):
    """A key is valid until its expiry, to the nanosecond."""
    secret = api.create_key("read", lifetime_s=60)
    client = api.anonymous_client(headers={"Authorization": f"Bearer {secret}"})
    api.clock.tick(60 - 1e-9)
    assert (await client.get("/api/status")).status_code == 200
    api.clock.tick(1e-9)
    assert_problem(await client.get("/api/status"), 401, "expired")


async def test_a_key_revoked_elsewhere_ends_within_two_seconds(api):
    """A key revoked by another process is refused within two seconds."""
    secret = api.create_key("read", name="mine")
    client = api.anonymous_client(headers={"Authorization": f"Bearer {secret}"})
    assert (await client.get("/api/status")).status_code == 200
    api_keys.revoke_key(api.store, api.clock, "mine")
    api.clock.tick(2)
    assert_problem(await client.get("/api/status"), 401, "revoked")


async def test_a_key_made_elsewhere_works_at_once(api):
    """A key created by another process is accepted immediately."""
    assert (await api.key_client("read").get("/api/status")).status_code == 200
    assert (await api.key_client("read").get("/api/status")).status_code == 200


async def test_session_tokens_and_login_links_are_no_keys(api):
    """A cookie value or a login token is not accepted as a Bearer key."""
    browser, _ = await api.browser_client()
    link = api_keys.create_login_url(api.store, api.clock, BASE).partition("token=")[2]
    for secret in (browser.cookies[COOKIE], link):
        response = await api.anonymous_client().get(
            "/api/status", headers={"Authorization": f"Bearer {secret}"}
        )
        assert_problem(response, 401)


async def test_a_browser_logs_in_with_a_key(api):
    """A pasted key opens a session with the key's name and scopes, in an HttpOnly cookie."""
    browser = api.anonymous_client()
    response = await browser.post("/api/session", json={"key": f" {api.create_key('read', name='laptop')}\n"})
    assert response.json()["name"] == "laptop"
    assert response.json()["scopes"] == ["read"]
    cookie = response.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/", "max-age="))
    assert "secure" not in cookie
    session = (await browser.get("/api/session")).json()
    assert session == response.json()
    assert (await browser.get("/api/status")).status_code == 200
    assert_problem(await browser.get("/api/keys"), 403, "admin")


async def test_the_cookie_is_secure_over_tls(api):
    """Over https the cookie is marked Secure."""
    browser = api.anonymous_client(base="https://localhost:8600")
    response = await browser.post("/api/session", json={"key": api.create_key("read")})
    assert "; secure" in response.headers["set-cookie"].lower()


async def test_a_wrong_pasted_key_is_refused_without_repeating_it(api):
    """The response to a login with a wrong key or a malformed body does not contain the input."""
    for body in ({"key": "my-secret-thing"}, {"key": ["my-secret-thing"]}, {"kye": "my-secret-thing"}):
        response = await api.anonymous_client().post("/api/session", json=body)
        assert response.status_code in {401, 422}
        assert "my-secret-thing" not in response.text


async def test_sessions_outlive_a_restart_of_the_engine(api):
    """A browser stays logged in across a restart of the engine."""
    browser, csrf = await api.browser_client()
    api.start()
    again = api.anonymous_client(cookies={COOKIE: browser.cookies[COOKIE]})
    assert (await again.get("/api/session")).json()["csrf"] == csrf


async def test_a_session_ends_with_the_key_that_opened_it(api):
    """Revoking a key ends every session that it opened."""
    browser = api.anonymous_client()
    await browser.post("/api/session", json={"key": api.create_key("read", name="laptop")})
    api_keys.revoke_key(api.store, api.clock, "laptop")
    api.clock.tick(2)
    assert_problem(await browser.get("/api/session"), 401)


async def test_a_session_ends_no_later_than_its_key(api):
    """A session expires no later than its key."""
    browser = api.anonymous_client()
    await browser.post("/api/session", json={"key": api.create_key("read", lifetime_s=3600)})
    api.clock.tick(3600)
    assert_problem(await browser.get("/api/session"), 401)


async def test_logging_out_ends_the_session_everywhere(api):
    """After a logout, copies of the cookie are refused."""
    browser, csrf = await api.browser_client()
    copy = api.anonymous_client(cookies={COOKIE: browser.cookies[COOKIE]})
    response = await browser.delete("/api/session", headers={"X-CSRF-Token": csrf})
    assert response.status_code == 204
    assert COOKIE not in browser.cookies
    assert_problem(await copy.get("/api/session"), 401)


async def test_bearer_key_has_no_session_to_end(api):
    """DELETE /api/session with a Bearer key gets 409 with the route that revokes a key."""
    assert_problem(await api.key_client("read").delete("/api/session"), 409, "/api/keys/{id}")


@pytest.mark.parametrize("token", [None, "", "wrong", "0" * 64])
async def test_browser_write_requires_its_csrf_token(api, token):
    """A browser write without the CSRF token of its session is refused."""
    browser, _ = await api.browser_client()
    headers = {} if token is None else {"X-CSRF-Token": token}
    assert_problem(await browser.post(FEEDBACK, json=RIGHT, headers=headers), 403, "X-CSRF-Token")
    assert api.store.feedback_by_key == {}


async def test_a_csrf_token_of_another_session_is_refused(api):
    """A CSRF token is valid for one session only."""
    browser, _ = await api.browser_client()
    _, other_csrf = await api.browser_client()
    response = await browser.post(FEEDBACK, json=RIGHT, headers={"X-CSRF-Token": other_csrf})
    assert_problem(response, 403, "X-CSRF-Token")


async def test_a_write_with_the_csrf_token_passes(api):
    """A browser write with its CSRF token is stored under the name of the session's key."""
    browser, csrf = await api.browser_client()
    headers = {"X-CSRF-Token": csrf, "Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    response = await browser.post(FEEDBACK, json=RIGHT, headers=headers)
    assert response.status_code == 201
    assert [feedback.author for feedback in api.store.feedback_by_key.values()] == [response.json()["author"]]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # a sandboxed frame, or a redirect
        {"Origin": "http://localhost:3000"},  # another application on this machine
        {"Origin": "http://localhost:8600.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_writes_from_other_sites_are_refused(api, headers):
    """Writes and logins from another site's page are refused, even with a valid token."""
    browser, csrf = await api.browser_client()
    response = await browser.post(FEEDBACK, json=RIGHT, headers={"X-CSRF-Token": csrf, **headers})
    assert_problem(response, 403, "other sites")
    log_in = await api.anonymous_client().post(
        "/api/session", json={"key": api.create_key("read")}, headers=headers
    )
    assert_problem(log_in, 403, "other sites")
    assert COOKIE not in log_in.cookies


async def test_configured_origin_may_write():
    """An origin listed in api.allowed_hosts may write, as behind a proxy that changes the Host."""
    api = ApiHarness(Api(allowed_hosts=("trim.example",)))
    response = await api.anonymous_client().post(
        "/api/session", json={"key": api.create_key("read")}, headers={"Origin": "https://trim.example"}
    )
    assert response.status_code == 200


async def test_no_response_allows_other_origins(api):
    """No response has CORS headers."""
    response = await api.anonymous_client().get("/api/health/live", headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8600", "", "10.0.0.1", "[::2]"])
async def test_other_hosts_are_refused(api, host):
    """An unknown Host header (DNS rebinding) is refused with and without a key, except for probes."""
    client = api.key_client("admin", base="http://localhost")
    for path in ("/api/status", "/api/metrics", "/", "/login"):
        assert_problem(await client.get(path, headers={"Host": host}), 400, "api.allowed_hosts")
    assert (await client.get("/api/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8600", "127.0.0.1:1", "[::1]:8600", "trim.example"])
async def test_allowed_hosts_are_accepted(host):
    """Loopback names and api.allowed_hosts are accepted on any port and in any case."""
    api = ApiHarness(Api(allowed_hosts=("Trim.example",)))
    response = await api.key_client("read").get("/api/status", headers={"Host": host})
    assert response.status_code == 200


async def test_a_login_link_works_once(api):
    """A login link logs one browser in as administrator and then expires."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    browser = api.anonymous_client()
    response = await browser.get(url)
    assert response.status_code == 303
    assert response.headers["location"] == "/"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert (await browser.get("/api/session")).json()["scopes"] == [str(scope) for scope in api_keys.SCOPES]
    second = await api.anonymous_client().get(url)
    assert second.status_code == 401
    assert COOKIE not in second.cookies
    assert "is no longer valid" in second.text


async def test_a_used_login_link_stays_used_after_a_restart(api):
    """A used login link stays invalid after a restart of the engine."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    await api.anonymous_client().get(url)
    api.start()
    assert (await api.anonymous_client().get(url)).status_code == 401


async def test_a_login_link_expires(api):
    """A login link expires after LINK_LIFETIME_S seconds."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    api.clock.tick(api_keys.LINK_LIFETIME_S)
    assert (await api.anonymous_client().get(url)).status_code == 401


async def test_a_login_link_is_not_used_up_by_a_prefetch(api):
    """A browser's prefetch does not use up the login link."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    assert_problem(await api.anonymous_client().get(url, headers={"Sec-Purpose": "prefetch;prerender"}), 503)
    assert (await api.anonymous_client().get(url)).status_code == 303


async def test_failed_logins_are_rate_limited(api):
    """After ten wrong keys an address must wait; other addresses and existing keys are not limited."""
    reader = api.key_client("read")
    for _ in range(10):
        assert_problem(await api.anonymous_client().post("/api/session", json={"key": "guess"}), 401)
    limited = await api.anonymous_client().post("/api/session", json={"key": "guess"})
    assert_problem(limited, 429, "wait")
    assert int(limited.headers["retry-after"]) == 6
    assert (await reader.get("/api/status")).status_code == 200
    assert_problem(await api.anonymous_client("10.9.8.7").post("/api/session", json={"key": "guess"}), 401)
    api.clock.tick(6)
    assert_problem(await api.anonymous_client().post("/api/session", json={"key": "guess"}), 401)


async def test_correct_password_is_refused_while_rate_limited():
    """While an address is rate-limited, even the correct password is refused."""
    api = ApiHarness(Api(admin_key="correct horse battery staple"))
    api_keys.apply_settings_key(api.store, api.clock, api.settings)
    for _ in range(10):
        await api.anonymous_client().post("/api/session", json={"key": "guess"})
    correct_key = {"key": "correct horse battery staple"}
    assert_problem(await api.anonymous_client().post("/api/session", json=correct_key), 429)
    api.clock.tick(60)
    assert (await api.anonymous_client().post("/api/session", json=correct_key)).status_code == 200


def test_failure_limiter_is_bounded():
    """The limiter tracks at most the configured number of addresses."""
    failures = FailureLimiter(ApiHarness().clock, addresses=100)
    for number in range(1000):
        failures.record_failure(f"10.0.{number // 256}.{number % 256}")
    assert len(failures._full_at) == 100


@pytest.mark.parametrize(
    ("address", "settings", "headers", "status"),
    [
        ("127.0.0.1", Api(), {}, 200),
        ("::1", Api(), {}, 200),
        ("192.168.1.5", Api(), {}, 401),
        ("127.0.0.1", Api(behind_proxy=True), {}, 401),  # the proxy is local, its clients are not
        ("127.0.0.1", Api(), {"X-Forwarded-For": "8.8.8.8"}, 401),  # a proxy that is not configured
    ],
)
async def test_metrics_are_open_on_loopback_only(address, settings, headers, status):
    """Metrics need no key from loopback; other addresses need a key with the scope read."""
    api = ApiHarness(settings)
    assert (await api.anonymous_client(address).get("/api/metrics", headers=headers)).status_code == status
    reader = api.key_client("read", address=address)
    assert (await reader.get("/api/metrics", headers={**reader.headers, **headers})).status_code == 200


async def test_unreadable_store_refuses_every_key(api, monkeypatch):
    """If keys cannot be read from the store, requests get 503."""
    from trimtab.engine.errors import StoreError

    reader = api.key_client("read")

    def fail():
        raise StoreError("the disk is gone")

    monkeypatch.setattr(api.store, "keys", fail)
    response = await reader.get("/api/status")
    assert_problem(response, 503)
    assert response.headers["retry-after"] == "5"
