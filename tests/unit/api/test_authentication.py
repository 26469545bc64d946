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
    """An API with one anomaly to write about."""
    api = ApiHarness()
    api.store.save_anomaly(anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY))
    return api


@pytest.mark.parametrize(
    "header",
    [
        "Bearer tt_" + "x" * 43,  # of the right form, but nobody's
        "Bearer ",  # empty
        "Bearer short",
        "Basic YWRtaW46YWRtaW4=",  # another scheme
        "tt_" + "x" * 43,  # no scheme
        "Bearer \x7f\x80",  # not even text
    ],
)
async def test_wrong_credentials_are_refused_without_repeating_them(api, header):
    """A wrong key gives 401, says how to send one and does not come back in the answer."""
    answer = await api.anonymous_client().get(
        "/api/status", headers={"Authorization": header.encode("latin-1")}
    )
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "x" * 10 not in answer.text


async def test_an_expired_key_is_refused(api):
    """A key counts until its expiry, to the nanosecond."""
    secret = api.create_key("read", lifetime_s=60)
    client = api.anonymous_client(headers={"Authorization": f"Bearer {secret}"})
    api.clock.tick(60 - 1e-9)
    assert (await client.get("/api/status")).status_code == 200
    api.clock.tick(1e-9)
    assert_problem(await client.get("/api/status"), 401, "expired")


async def test_a_key_revoked_elsewhere_ends_within_two_seconds(api):
    """What `trimtab key revoke` does in another process counts here soon."""
    secret = api.create_key("read", name="mine")
    client = api.anonymous_client(headers={"Authorization": f"Bearer {secret}"})
    assert (await client.get("/api/status")).status_code == 200
    api_keys.revoke_key(api.store, api.clock, "mine")
    api.clock.tick(2)
    assert_problem(await client.get("/api/status"), 401, "revoked")


async def test_a_key_made_elsewhere_works_at_once(api):
    """What `trimtab key create` makes in another process can be used without waiting."""
    assert (await api.key_client("read").get("/api/status")).status_code == 200
    assert (await api.key_client("read").get("/api/status")).status_code == 200


async def test_session_tokens_and_login_links_are_no_keys(api):
    """A stolen cookie value or link cannot be used as a Bearer key."""
    browser, _ = await api.browser_client()
    link = api_keys.create_login_url(api.store, api.clock, BASE).partition("token=")[2]
    for secret in (browser.cookies[COOKIE], link):
        answer = await api.anonymous_client().get(
            "/api/status", headers={"Authorization": f"Bearer {secret}"}
        )
        assert_problem(answer, 401)


async def test_a_browser_logs_in_with_a_key(api):
    """A pasted key gives a session with the key's name and scopes, in a cookie that no script can read."""
    browser = api.anonymous_client()
    answer = await browser.post("/api/session", json={"key": f" {api.create_key('read', name='laptop')}\n"})
    assert answer.json()["name"] == "laptop"
    assert answer.json()["scopes"] == ["read"]
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/", "max-age="))
    assert "secure" not in cookie
    me = (await browser.get("/api/session")).json()
    assert me == answer.json()
    assert (await browser.get("/api/status")).status_code == 200
    assert_problem(await browser.get("/api/keys"), 403, "admin")


async def test_the_cookie_is_secure_over_tls(api):
    """Over https the cookie never goes out in the clear."""
    browser = api.anonymous_client(base="https://localhost:8600")
    answer = await browser.post("/api/session", json={"key": api.create_key("read")})
    assert "; secure" in answer.headers["set-cookie"].lower()


async def test_a_wrong_pasted_key_is_refused_without_repeating_it(api):
    """Logging in with a wrong key, or a body of another form, shows nothing of what was pasted."""
    for body in ({"key": "my-secret-thing"}, {"key": ["my-secret-thing"]}, {"kye": "my-secret-thing"}):
        answer = await api.anonymous_client().post("/api/session", json=body)
        assert answer.status_code in {401, 422}
        assert "my-secret-thing" not in answer.text


async def test_sessions_outlive_a_restart_of_the_engine(api):
    """A browser stays logged in when the engine starts again."""
    browser, csrf = await api.browser_client()
    api.start()
    again = api.anonymous_client(cookies={COOKIE: browser.cookies[COOKIE]})
    assert (await again.get("/api/session")).json()["csrf"] == csrf


async def test_a_session_ends_with_the_key_that_opened_it(api):
    """Revoking a key logs out every browser that used it."""
    browser = api.anonymous_client()
    await browser.post("/api/session", json={"key": api.create_key("read", name="laptop")})
    api_keys.revoke_key(api.store, api.clock, "laptop")
    api.clock.tick(2)
    assert_problem(await browser.get("/api/session"), 401)


async def test_a_session_ends_no_later_than_its_key(api):
    """The session of a key that expires in an hour lasts an hour."""
    browser = api.anonymous_client()
    await browser.post("/api/session", json={"key": api.create_key("read", lifetime_s=3600)})
    api.clock.tick(3600)
    assert_problem(await browser.get("/api/session"), 401)


async def test_logging_out_ends_the_session_everywhere(api):
    """After a log-out the cookie is worthless, even where somebody kept a copy."""
    browser, csrf = await api.browser_client()
    copy = api.anonymous_client(cookies={COOKIE: browser.cookies[COOKIE]})
    answer = await browser.delete("/api/session", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    assert COOKIE not in browser.cookies
    assert_problem(await copy.get("/api/session"), 401)


async def test_a_program_has_no_session_to_end(api):
    """DELETE /api/session with a Bearer key says what revokes a key."""
    assert_problem(await api.key_client("read").delete("/api/session"), 409, "/api/keys/{id}")


@pytest.mark.parametrize("token", [None, "", "wrong", "0" * 64])
async def test_a_write_of_a_browser_needs_the_csrf_token(api, token):
    """Without the token of its own session a browser writes nothing."""
    browser, _ = await api.browser_client()
    headers = {} if token is None else {"X-CSRF-Token": token}
    assert_problem(await browser.post(FEEDBACK, json=RIGHT, headers=headers), 403, "X-CSRF-Token")
    assert api.store.feedback_by_key == {}


async def test_a_csrf_token_of_another_session_is_refused(api):
    """The token belongs to one session."""
    browser, _ = await api.browser_client()
    _, others = await api.browser_client()
    answer = await browser.post(FEEDBACK, json=RIGHT, headers={"X-CSRF-Token": others})
    assert_problem(answer, 403, "X-CSRF-Token")


async def test_a_write_with_the_csrf_token_passes(api):
    """The dashboard's own write is kept, under the name of the key that logged in."""
    browser, csrf = await api.browser_client()
    headers = {"X-CSRF-Token": csrf, "Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    answer = await browser.post(FEEDBACK, json=RIGHT, headers=headers)
    assert answer.status_code == 201
    assert [word.author for word in api.store.feedback_by_key.values()] == [answer.json()["author"]]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # a sandboxed frame, or a redirect
        {"Origin": "http://localhost:3000"},  # another program of this machine
        {"Origin": "http://localhost:8600.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_writes_from_other_sites_are_refused(api, headers):
    """Neither a write with the right token nor a log-in may come from another site's page."""
    browser, csrf = await api.browser_client()
    answer = await browser.post(FEEDBACK, json=RIGHT, headers={"X-CSRF-Token": csrf, **headers})
    assert_problem(answer, 403, "other sites")
    log_in = await api.anonymous_client().post(
        "/api/session", json={"key": api.create_key("read")}, headers=headers
    )
    assert_problem(log_in, 403, "other sites")
    assert COOKIE not in log_in.cookies


async def test_an_origin_that_the_settings_name_may_write():
    """Behind a proxy that changes the Host, the public name is told by api.allowed_hosts."""
    api = ApiHarness(Api(allowed_hosts=("trim.example",)))
    answer = await api.anonymous_client().post(
        "/api/session", json={"key": api.create_key("read")}, headers={"Origin": "https://trim.example"}
    )
    assert answer.status_code == 200


async def test_no_answer_allows_other_origins(api):
    """There is no CORS: other sites' scripts read nothing."""
    answer = await api.anonymous_client().get("/api/health/live", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8600", "", "10.0.0.1", "[::2]"])
async def test_other_hosts_are_refused(api, host):
    """A Host header that is not ours (DNS rebinding) is refused, with a key and without, but for probes."""
    client = api.key_client("admin", base="http://localhost")
    for path in ("/api/status", "/api/metrics", "/", "/login"):
        assert_problem(await client.get(path, headers={"Host": host}), 400, "api.allowed_hosts")
    assert (await client.get("/api/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8600", "127.0.0.1:1", "[::1]:8600", "trim.example"])
async def test_our_own_names_are_let_in(host):
    """Loopback names and those of the settings are ours, on any port and in any case."""
    api = ApiHarness(Api(allowed_hosts=("Trim.example",)))
    answer = await api.key_client("read").get("/api/status", headers={"Host": host})
    assert answer.status_code == 200


async def test_a_login_link_works_once(api):
    """The link logs one browser in as administrator and then is worthless."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    browser = api.anonymous_client()
    answer = await browser.get(url)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert (await browser.get("/api/session")).json()["scopes"] == [str(scope) for scope in api_keys.SCOPES]
    second = await api.anonymous_client().get(url)
    assert second.status_code == 401
    assert COOKIE not in second.cookies
    assert "is no longer valid" in second.text


async def test_a_used_login_link_stays_used_after_a_restart(api):
    """Once means once, whatever happens to the engine."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    await api.anonymous_client().get(url)
    api.start()
    assert (await api.anonymous_client().get(url)).status_code == 401


async def test_a_login_link_expires(api):
    """Ten minutes later the link does nothing."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    api.clock.tick(api_keys.LINK_LIFETIME_S)
    assert (await api.anonymous_client().get(url)).status_code == 401


async def test_a_login_link_is_not_used_up_by_a_prefetch(api):
    """A browser that looks ahead does not take the link from the person."""
    url = api_keys.create_login_url(api.store, api.clock, BASE)
    assert_problem(await api.anonymous_client().get(url, headers={"Sec-Purpose": "prefetch;prerender"}), 503)
    assert (await api.anonymous_client().get(url)).status_code == 303


async def test_many_failures_are_slowed_down(api):
    """After ten wrong keys an address waits; others, and keys of our own making, do not."""
    program = api.key_client("read")
    for _ in range(10):
        assert_problem(await api.anonymous_client().post("/api/session", json={"key": "guess"}), 401)
    slowed = await api.anonymous_client().post("/api/session", json={"key": "guess"})
    assert_problem(slowed, 429, "wait")
    assert int(slowed.headers["retry-after"]) == 6
    assert (await program.get("/api/status")).status_code == 200
    assert_problem(await api.anonymous_client("10.9.8.7").post("/api/session", json={"key": "guess"}), 401)
    api.clock.tick(6)
    assert_problem(await api.anonymous_client().post("/api/session", json={"key": "guess"}), 401)


async def test_a_guessed_password_is_not_looked_at_while_slowed_down():
    """While an address is slowed down even the right password of the settings is not tried."""
    api = ApiHarness(Api(admin_key="correct horse battery staple"))
    api_keys.apply_settings_key(api.store, api.clock, api.settings)
    for _ in range(10):
        await api.anonymous_client().post("/api/session", json={"key": "guess"})
    good = {"key": "correct horse battery staple"}
    assert_problem(await api.anonymous_client().post("/api/session", json=good), 429)
    api.clock.tick(60)
    assert (await api.anonymous_client().post("/api/session", json=good)).status_code == 200


def test_the_table_of_failures_is_bounded():
    """A flood of addresses does not fill the memory."""
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
        ("127.0.0.1", Api(), {"X-Forwarded-For": "8.8.8.8"}, 401),  # a proxy nobody told us of
    ],
)
async def test_metrics_are_open_on_loopback_only(address, settings, headers, status):
    """A local Prometheus needs no key; anybody else needs one with the scope read."""
    api = ApiHarness(settings)
    assert (await api.anonymous_client(address).get("/api/metrics", headers=headers)).status_code == status
    program = api.key_client("read", address=address)
    assert (await program.get("/api/metrics", headers={**program.headers, **headers})).status_code == 200


async def test_a_store_that_cannot_be_read_lets_nobody_in(api, monkeypatch):
    """Where keys cannot be looked up the answer is 503, not a guess."""
    from trimtab.engine.errors import StoreError

    program = api.key_client("read")

    def fail():
        raise StoreError("the disk is gone")

    monkeypatch.setattr(api.store, "keys", fail)
    answer = await program.get("/api/status")
    assert_problem(answer, 503)
    assert answer.headers["retry-after"] == "5"
