import stat

import pytest

from tests.fakes.ports import FakeClock, FakeStore
from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import ConflictError, InputError, NotFoundError, SettingsError
from trimtab.engine.settings import Api

GOOD = "a password of our own"


@pytest.fixture
def store():
    """An empty store."""
    return FakeStore()


@pytest.fixture
def clock():
    """A clock that stands."""
    return FakeClock()


def seen(store):
    """Everything that a store would write to disk, as text."""
    return repr(store.api_keys)


def test_a_secret_is_random_and_kept_only_as_its_hash(store, clock):
    """A key's secret has 256 bits and is nowhere in the store."""
    made = [api_keys.create_key(store, clock, f"key {n}", ["read"]) for n in range(50)]
    assert len({secret for _, secret in made}) == 50
    for key, secret in made:
        assert secret.startswith("tt_")
        assert len(secret) == 46
        assert secret not in seen(store)
        assert secret[10:] not in seen(store)
        assert key.prefix == secret[:10]
        assert key.hash == api_keys.hash_secret(secret)


def test_scopes_are_ordered_and_checked(store, clock):
    """Scopes are kept in their own order; an unknown one is refused by name."""
    key, _ = api_keys.create_key(store, clock, "x", ["execute", "read", "read"])
    assert key.scopes == ("read", "execute")
    with pytest.raises(InputError, match="'write'"):
        api_keys.create_key(store, clock, "y", ["write"])
    with pytest.raises(InputError, match="choose from read, ingest"):
        api_keys.create_key(store, clock, "y", [])


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_name_is_needed(store, clock, name):
    """A key has a name of 1 to 100 characters."""
    with pytest.raises(InputError, match="1 to 100"):
        api_keys.create_key(store, clock, name, ["read"])


def test_live_names_are_unique(store, clock):
    """Two live keys never share a name; a revoked or expired one gives its name back."""
    api_keys.create_key(store, clock, "x", ["read"], 60)
    with pytest.raises(ConflictError, match="'x'"):
        api_keys.create_key(store, clock, "x", ["read"])
    clock.tick(60)
    api_keys.create_key(store, clock, "x", ["read"])
    assert [key.name for key in api_keys.list_keys(store)] == ["x", "x"]


@pytest.mark.parametrize("by", ["id", "prefix", "name"])
def test_a_key_is_revoked_by_what_the_list_shows(store, clock, by):
    """Id, prefix and name all tell which key is meant."""
    key, _ = api_keys.create_key(store, clock, "x", ["read"])
    api_keys.create_key(store, clock, "y", ["read"])
    api_keys.revoke_key(store, clock, getattr(key, by))
    assert [(k.name, k.revoked is None) for k in api_keys.list_keys(store)] in (
        [("y", True), ("x", False)], [("x", False), ("y", True)],
    )  # fmt: skip
    with pytest.raises(NotFoundError, match="no live key"):
        api_keys.revoke_key(store, clock, getattr(key, by))


def test_sessions_and_links_are_not_listed(store, clock):
    """The list of keys shows keys, not browsers."""
    key, _ = api_keys.create_key(store, clock, "x", ["read"])
    api_keys.open_session(store, clock, key)
    api_keys.create_login_url(store, clock, "http://localhost:8600/")
    assert api_keys.list_keys(store) == [key]


def test_the_settings_key_becomes_a_live_key(store, clock, tmp_path):
    """A key of the settings, or of their file, is an administrator's, and shows no part of itself."""
    key = api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD))
    assert key.prefix == api_keys.SETTINGS_KEY_PREFIX
    assert api_keys.find_key(store.keys(), GOOD) == key
    assert "password" not in seen(store)
    assert api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD)) == key
    assert len(store.keys()) == 1
    file = tmp_path / "key"
    file.write_text(f"{GOOD} number two\n")
    assert api_keys.find_key(
        [api_keys.apply_settings_key(store, clock, Api(admin_key_file=file))], f"{GOOD} number two"
    )


def test_another_settings_key_replaces_the_one_before(store, clock):
    """Changing or removing the key of the settings ends the old one."""
    api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD))
    api_keys.apply_settings_key(store, clock, Api(admin_key=f"{GOOD}, the next"))
    assert [api_keys.is_live(key, clock.now()) for key in api_keys.list_keys(store)].count(True) == 1
    api_keys.apply_settings_key(store, clock, Api())
    assert not any(api_keys.is_live(key, clock.now()) for key in api_keys.list_keys(store))


def test_a_settings_key_comes_back_unless_a_person_revoked_it(store, clock):
    """Put back into the settings a key works again; one that was revoked is an error that says so."""
    api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD))
    api_keys.apply_settings_key(store, clock, Api())
    key = api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD))
    assert api_keys.is_live(api_keys.find_key(store.keys(), GOOD), clock.now())
    api_keys.revoke_key(store, clock, key.id)
    with pytest.raises(SettingsError, match="revoked"):
        api_keys.apply_settings_key(store, clock, Api(admin_key=GOOD))


def test_a_weak_settings_key_is_refused_without_showing_it(store, clock):
    """A short password is no key; the message has its length only."""
    with pytest.raises(SettingsError, match="7 characters") as caught:
        api_keys.apply_settings_key(store, clock, Api(admin_key="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_settings_key_file_that_cannot_be_read_is_named(store, clock, tmp_path):
    """A missing or binary key file is an error that names it."""
    with pytest.raises(SettingsError, match=r"admin_key_file .*gone.* No such file"):
        api_keys.apply_settings_key(store, clock, Api(admin_key_file=tmp_path / "gone"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8 text"):
        api_keys.apply_settings_key(store, clock, Api(admin_key_file=tmp_path / "binary"))


def test_the_first_start_on_a_terminal_gives_a_link(store, clock, tmp_path):
    """Without a key a terminal gets a link and no file is written."""
    first = api_keys.ensure_first_access(
        store, clock, Api(), tmp_path, "http://127.0.0.1:8600", terminal=True
    )
    assert first.login_url.startswith("http://127.0.0.1:8600/login?token=tl_")
    assert first.key_file is None
    assert list(tmp_path.iterdir()) == []
    token = first.login_url.partition("token=")[2]
    assert token not in seen(store)
    assert api_keys.redeem_login_link(store, clock, token) is not None
    assert api_keys.redeem_login_link(store, clock, token) is None


def test_the_first_start_without_a_terminal_writes_a_private_file(store, clock, tmp_path):
    """Without a terminal the admin key stands in a file that only its owner can read."""
    first = api_keys.ensure_first_access(store, clock, Api(), tmp_path / "data", "http://x", terminal=False)
    assert first.login_url is None
    assert first.key_file == tmp_path / "data" / "admin.key"
    assert stat.S_IMODE(first.key_file.stat().st_mode) == 0o600
    assert [path.name for path in first.key_file.parent.iterdir()] == ["admin.key"]
    key = api_keys.find_key(store.keys(), first.key_file.read_text().strip())
    assert key.scopes == tuple(api_keys.SCOPES)
    assert key.expires is None
    again = api_keys.ensure_first_access(store, clock, Api(), tmp_path / "data", "http://x", terminal=False)
    assert again == api_keys.FirstAccess()


def test_an_old_key_file_is_replaced(store, clock, tmp_path):
    """A file of a store that is gone, readable by others, gives way to a private one."""
    old = tmp_path / "admin.key"
    old.write_text("old")
    old.chmod(0o644)
    api_keys.ensure_first_access(store, clock, Api(), tmp_path, "http://x", terminal=False)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert api_keys.find_key(store.keys(), old.read_text().strip())


@pytest.mark.parametrize("terminal", [True, False])
def test_a_start_with_a_key_opens_no_other_way_in(store, clock, tmp_path, terminal):
    """Where a live key is there, or the settings give one, neither link nor file appears."""
    first = api_keys.ensure_first_access(
        store, clock, Api(admin_key=GOOD), tmp_path, "http://x", terminal=terminal
    )
    assert first == api_keys.FirstAccess()
    assert list(tmp_path.iterdir()) == []
