"""Audit rows of logins and keys, and redirects of typed paths to dashboard pages."""

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.security import api_keys


@pytest.fixture
def api():
    """Return an API with a control loop and its audit."""
    return ApiHarness(loop=True)


def audited(api):
    """Return the audit rows as (what, actor)."""
    return [(row.what, row.actor) for row in api.loop.ledger.rows]


async def test_logins_are_in_the_audit(api):
    """Logins by key and by link and logouts are audited; a wrong key is not."""
    browser, csrf = await api.browser_client()
    assert audited(api) == [("logged in", "key 0")]
    assert api.loop.ledger.rows[0].details["address"] == "127.0.0.1"
    await browser.delete("/api/session", headers={"X-CSRF-Token": csrf})
    await api.anonymous_client().post("/api/session", json={"key": "tt_wrong"})
    link = api_keys.create_login_url(api.store, api.clock, "http://localhost:8600")
    assert (await api.anonymous_client().get(link)).status_code == 303
    assert audited(api)[1:] == [("logged out", "key 0"), ("logged in", "login link")]


async def test_keys_are_in_the_audit_without_their_secret(api):
    """Creating and revoking a key are audited with the actor and the scopes, without the secret."""
    admin = api.key_client("admin")
    new_key = (await admin.post("/api/keys", json={"name": "ci", "scopes": ["read", "ingest"]})).json()
    await admin.delete(f"/api/keys/{new_key['id']}")
    created, revoked = api.loop.ledger.rows
    assert (created.what, created.subject, created.actor) == ("key created", new_key["id"], "key 0")
    assert created.details == {"name": "ci", "scopes": "read, ingest"}
    assert (revoked.what, revoked.details) == ("key revoked", {"name": "ci"})
    assert new_key["secret"] not in repr(api.loop.ledger.rows)


async def test_logins_require_an_audit_row(api):
    """If the audit cannot be written, no session is opened and no key is created."""
    secret, admin = api.create_key("admin"), api.key_client("admin")
    api.loop.ledger.broken = "disk full"
    client = api.anonymous_client()
    assert_problem(await client.post("/api/session", json={"key": secret}), 503, "disk full")
    assert not client.cookies
    assert_problem(await admin.post("/api/keys", json={"name": "ci", "scopes": ["read"]}), 503, "disk full")


async def test_login_works_without_an_audit():
    """Without a control loop a browser can log in."""
    api = ApiHarness()
    await api.browser_client()
    assert api.store.api_keys


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/tools", "./#/tools"),
        ("/tools/redis", "../#/tools/redis"),
        ("/series?search=a%20b", "./#/series?search=a%20b"),
        ("/tools/a%20b", "../#/tools/a%20b"),
        ("/incidents/", "../#/incidents"),
    ],
)
async def test_a_typed_path_redirects_to_its_page(tmp_path, path, page):
    """A browser is redirected to the dashboard page, also below a proxy prefix; other clients get 404."""
    (tmp_path / "index.html").write_text("Trimtab")
    client = ApiHarness(web_dir=tmp_path).anonymous_client()
    response = await client.get(path, headers=BROWSER)
    assert (response.status_code, response.headers.get("location")) == (307, page)
    assert_problem(await client.get(path), 404)


@pytest.mark.parametrize("path", ["/tools.js", "/assets/old", "/api/nothing"])
async def test_files_and_api_paths_are_not_redirected(tmp_path, path):
    """Paths of files and of the API are not redirected."""
    (tmp_path / "index.html").write_text("Trimtab")
    response = await ApiHarness(web_dir=tmp_path).anonymous_client().get(path, headers=BROWSER)
    assert response.status_code in {401, 404}
