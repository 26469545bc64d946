"""Audit rows of logins and keys, and redirects of typed paths to dashboard pages."""

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.security import api_keys


@pytest.fixture
def api():
    """An API with a control loop, and so with an audit."""
    return ApiHarness(loop=True)


def audited(api):
    """Return the audit rows as (what, actor)."""
    return [(row.what, row.actor) for row in api.loop.ledger.rows]


async def test_logins_are_in_the_audit(api):
    """With a key and by a link, and the end of a session; a wrong key leaves no row."""
    browser, csrf = await api.browser_client()
    assert audited(api) == [("logged in", "key 0")]
    assert api.loop.ledger.rows[0].details["address"] == "127.0.0.1"
    await browser.delete("/api/session", headers={"X-CSRF-Token": csrf})
    await api.anonymous_client().post("/api/session", json={"key": "tt_wrong"})
    link = api_keys.create_login_url(api.store, api.clock, "http://localhost:8600")
    assert (await api.anonymous_client().get(link)).status_code == 303
    assert audited(api)[1:] == [("logged out", "key 0"), ("logged in", "login link")]


async def test_keys_are_in_the_audit_without_their_secret(api):
    """Who made it, with which scopes, and who revoked it."""
    program = api.key_client("admin")
    made = (await program.post("/api/keys", json={"name": "ci", "scopes": ["read", "ingest"]})).json()
    await program.delete(f"/api/keys/{made['id']}")
    created, revoked = api.loop.ledger.rows
    assert (created.what, created.subject, created.actor) == ("key created", made["id"], "key 0")
    assert created.details == {"name": "ci", "scopes": "read, ingest"}
    assert (revoked.what, revoked.details) == ("key revoked", {"name": "ci"})
    assert made["secret"] not in repr(api.loop.ledger.rows)


async def test_logins_require_an_audit_row(api):
    """Without a row there is no session, and no secret is given out."""
    secret, program = api.create_key("admin"), api.key_client("admin")
    api.loop.ledger.broken = "disk full"
    client = api.anonymous_client()
    assert_problem(await client.post("/api/session", json={"key": secret}), 503, "disk full")
    assert not client.cookies
    assert_problem(await program.post("/api/keys", json={"name": "ci", "scopes": ["read"]}), 503, "disk full")


async def test_without_a_loop_there_is_no_audit():
    """A browser logs in all the same."""
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
    """A browser is led to it, below a proxy's prefix, too; a program is told that there is no such file."""
    (tmp_path / "index.html").write_text("Trimtab")
    client = ApiHarness(web_dir=tmp_path).anonymous_client()
    answer = await client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.headers.get("location")) == (307, page)
    assert_problem(await client.get(path), 404)


@pytest.mark.parametrize("path", ["/tools.js", "/assets/old", "/api/nothing"])
async def test_files_and_api_paths_are_not_redirected(tmp_path, path):
    """Paths of files and of the API are not redirected."""
    (tmp_path / "index.html").write_text("Trimtab")
    answer = await ApiHarness(web_dir=tmp_path).anonymous_client().get(path, headers=BROWSER)
    assert answer.status_code in {401, 404}
