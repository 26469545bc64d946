"""What goes on at the door stands in the audit, and what people type as a path leads to its page."""

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.security import api_keys


@pytest.fixture
def room():
    """With a loop, and so with an audit."""
    return ApiHarness(loop=True)


def audited(room):
    """Rows of the audit: what, by whom."""
    return [(row.what, row.actor) for row in room.loop.ledger.rows]


async def test_logins_are_in_the_audit(room):
    """With a key and by a link, and the end of a session; a wrong key leaves no row."""
    browser, csrf = await room.browser_client()
    assert audited(room) == [("logged in", "key 0")]
    assert room.loop.ledger.rows[0].details["address"] == "127.0.0.1"
    await browser.delete("/api/session", headers={"X-CSRF-Token": csrf})
    await room.anonymous_client().post("/api/session", json={"key": "tt_wrong"})
    link = api_keys.create_login_url(room.store, room.clock, "http://localhost:8600")
    assert (await room.anonymous_client().get(link)).status_code == 303
    assert audited(room)[1:] == [("logged out", "key 0"), ("logged in", "login link")]


async def test_keys_are_in_the_audit_without_their_secret(room):
    """Who made it, with which scopes, and who revoked it."""
    program = room.key_client("admin")
    made = (await program.post("/api/keys", json={"name": "ci", "scopes": ["read", "ingest"]})).json()
    await program.delete(f"/api/keys/{made['id']}")
    created, revoked = room.loop.ledger.rows
    assert (created.what, created.subject, created.actor) == ("key created", made["id"], "key 0")
    assert created.details == {"name": "ci", "scopes": "read, ingest"}
    assert (revoked.what, revoked.details) == ("key revoked", {"name": "ci"})
    assert made["secret"] not in repr(room.loop.ledger.rows)


async def test_nobody_comes_in_unseen(room):
    """Without a row there is no session, and no secret is given out."""
    secret, program = room.create_key("admin"), room.key_client("admin")
    room.loop.ledger.broken = "disk full"
    client = room.anonymous_client()
    assert_problem(await client.post("/api/session", json={"key": secret}), 503, "disk full")
    assert not client.cookies
    assert_problem(await program.post("/api/keys", json={"name": "ci", "scopes": ["read"]}), 503, "disk full")


async def test_without_a_loop_there_is_no_audit():
    """A browser logs in all the same."""
    room = ApiHarness()
    await room.browser_client()
    assert room.store.api_keys


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
async def test_a_page_that_was_typed_as_a_path_is_found(tmp_path, path, page):
    """A browser is led to it, below a proxy's prefix, too; a program is told that there is no such file."""
    (tmp_path / "index.html").write_text("Trimtab")
    client = ApiHarness(web_dir=tmp_path).anonymous_client()
    answer = await client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.headers.get("location")) == (307, page)
    assert_problem(await client.get(path), 404)


@pytest.mark.parametrize("path", ["/tools.js", "/assets/old", "/api/nothing"])
async def test_what_is_no_page_is_not_one(tmp_path, path):
    """Files and the API answer as ever."""
    (tmp_path / "index.html").write_text("Trimtab")
    answer = await ApiHarness(web_dir=tmp_path).anonymous_client().get(path, headers=BROWSER)
    assert answer.status_code in {401, 404}
