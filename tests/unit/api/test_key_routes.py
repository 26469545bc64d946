"""API keys, the settings key and first access."""

import stat

import pytest

from tests.fakes.ports import FakeClock, FakeStore
from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import ConflictError, InputError, NotFoundError, SettingsError
from trimtab.engine.settings import Api

PASSWORD = "a password of our own"


@pytest.fixture
def store():
    """Return an empty store."""
    return FakeStore()


@pytest.fixture
def clock():
    """Return a fake clock."""
    return FakeClock()


def stored_text(store):
    """Return the stored keys as text."""
    return repr(store.api_keys)


def test_secret_is_random_and_stored_only_as_its_hash(store, clock):
    """A key's secret has 256 random bits and is not stored."""
    created = [api_keys.create_key(store, clock, f"key {n}", ["read"]) for n in range(50)]
    assert len({secret for _, secret in created}) == 50
    for key, secret in created:
        assert secret.startswith("tt_")
        assert len(secret) == 46
        assert secret not in stored_text(store)
        assert secret[10:] not in stored_text(store)
        assert key.prefix == secret[:10]
        assert key.hash == api_keys.hash_secret(secret)


def test_scopes_are_ordered_and_checked(store, clock):
    """Scopes are stored in canonical order; an unknown scope is refused by name."""
    key, _ = api_keys.create_key(store, clock, "x", ["execute", "read", "read"])
    assert key.scopes == ("read", "execute")
    with pytest.raises(InputError, match="'write'"):
        api_keys.create_key(store, clock, "y", ["write"])
    with pytest.raises(InputError, match="choose from read, ingest"):
        api_keys.create_key(store, clock, "y", [])


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_key_name_has_1_to_100_characters(store, clock, name):
    """A key has a name of 1 to 100 characters."""
    with pytest.raises(InputError, match="1 to 100"):
        api_keys.create_key(store, clock, name, ["read"])


def test_live_names_are_unique(store, clock):
    """Two live keys cannot share a name; the name of an expired key can be reused."""
    api_keys.create_key(store, clock, "x", ["read"], 60)
    with pytest.raises(ConflictError, match="'x'"):
        api_keys.create_key(store, clock, "x", ["read"])
    clock.tick(60)
    api_keys.create_key(store, clock, "x", ["read"])
    assert [key.name for key in api_keys.list_keys(store)] == ["x", "x"]


@pytest.mark.parametrize("by", ["id", "prefix", "name"])
def test_key_is_revoked_by_id_prefix_or_name(store, clock, by):
    """A key can be revoked by its id, prefix or name."""
    key, _ = api_keys.create_key(store, clock, "x", ["read"])
    api_keys.create_key(store, clock, "y", ["read"])
    api_keys.revoke_key(store, clock, getattr(key, by))
    assert [(k.name, k.revoked is None) for k in api_keys.list_keys(store)] in (
        [("y", True), ("x", False)], [("x", False), ("y", True)],
    )  # fmt: skip
    with pytest.raises(NotFoundError, match="no live key"):
        api_keys.revoke_key(store, clock, getattr(key, by))


def test_sessions_and_links_are_not_listed(store, clock):
    """The list of keys has neither sessions nor login links."""
    key, _ = api_keys.create_key(store, clock, "x", ["read"])
    api_keys.open_session(store, clock, key)
    api_keys.create_login_url(store, clock, "http://localhost:8600/")
    assert api_keys.list_keys(store) == [key]


def test_the_settings_key_becomes_a_live_key(store, clock, tmp_path):
    """A key from the settings or their key file is an administrator key without visible parts."""
    key = api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD))
    assert key.prefix == api_keys.SETTINGS_KEY_PREFIX
    assert api_keys.find_key(store.keys(), PASSWORD) == key
    assert "password" not in stored_text(store)
    assert api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD)) == key
    assert len(store.keys()) == 1
    file = tmp_path / "key"
    file.write_text(f"{PASSWORD} number two\n")
    assert api_keys.find_key(
        [api_keys.apply_settings_key(store, clock, Api(admin_key_file=file))], f"{PASSWORD} number two"
    )


def test_changed_settings_key_replaces_the_previous_one(store, clock):
    """Changing or removing the settings key revokes the previous one."""
    api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD))
    api_keys.apply_settings_key(store, clock, Api(admin_key=f"{PASSWORD}, the next"))
    assert [api_keys.is_live(key, clock.now()) for key in api_keys.list_keys(store)].count(True) == 1
    api_keys.apply_settings_key(store, clock, Api())
    assert not any(api_keys.is_live(key, clock.now()) for key in api_keys.list_keys(store))


def test_removed_settings_key_can_be_restored(store, clock):
    """A settings key that was removed works again when restored; one revoked by an operator is an error."""
    api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD))
    api_keys.apply_settings_key(store, clock, Api())
    key = api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD))
    assert api_keys.is_live(api_keys.find_key(store.keys(), PASSWORD), clock.now())
    api_keys.revoke_key(store, clock, key.id)
    with pytest.raises(SettingsError, match="revoked"):
        api_keys.apply_settings_key(store, clock, Api(admin_key=PASSWORD))


def test_a_weak_settings_key_is_refused_without_showing_it(store, clock):
    """A short settings key is refused with its length, not its value."""
    with pytest.raises(SettingsError, match="7 characters") as caught:
        api_keys.apply_settings_key(store, clock, Api(admin_key="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_settings_key_file_that_cannot_be_read_is_named(store, clock, tmp_path):
    """A missing or binary key file raises an error that names the file."""
    with pytest.raises(SettingsError, match=r"admin_key_file .*gone.* No such file"):
        api_keys.apply_settings_key(store, clock, Api(admin_key_file=tmp_path / "gone"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8 text"):
        api_keys.apply_settings_key(store, clock, Api(admin_key_file=tmp_path / "binary"))


def test_the_first_start_on_a_terminal_gives_a_link(store, clock, tmp_path):
    """On a terminal, the first start gives a login link and writes no file."""
    first = api_keys.ensure_first_access(
        store, clock, Api(), tmp_path, "http://127.0.0.1:8600", terminal=True
    )
    assert first.login_url.startswith("http://127.0.0.1:8600/login?token=tl_")
    assert first.key_file is None
    assert list(tmp_path.iterdir()) == []
    token = first.login_url.partition("token=")[2]
    assert token not in stored_text(store)
    assert api_keys.redeem_login_link(store, clock, token) is not None
    assert api_keys.redeem_login_link(store, clock, token) is None


def test_the_first_start_without_a_terminal_writes_a_private_file(store, clock, tmp_path):
    """Without a terminal, the admin key is written to a file that only its owner can read."""
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
    """An old key file readable by others is replaced by a private one."""
    old = tmp_path / "admin.key"
    old.write_text("old")
    old.chmod(0o644)
    api_keys.ensure_first_access(store, clock, Api(), tmp_path, "http://x", terminal=False)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert api_keys.find_key(store.keys(), old.read_text().strip())


@pytest.mark.parametrize("terminal", [True, False])
def test_start_with_a_key_gives_no_other_access(store, clock, tmp_path, terminal):
    """With a live key or a settings key, neither a login link nor a file is created."""
    first = api_keys.ensure_first_access(
        store, clock, Api(admin_key=PASSWORD), tmp_path, "http://x", terminal=terminal
    )
    assert first == api_keys.FirstAccess()
    assert list(tmp_path.iterdir()) == []
