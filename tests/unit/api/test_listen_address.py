"""Listen address and allowed hosts."""

import pytest

from trimtab.engine.api.security.listen_address import AllowedHosts, check_listen_address, is_loopback
from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Api


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_no_tls(host):
    """A loopback address needs no TLS."""
    assert is_loopback(host)
    check_listen_address(Api(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "trim.example", "127.0.0.1.evil.example"])
def test_other_addresses_need_tls_or_a_proxy(host):
    """Another address is refused with a message that names TLS and behind_proxy."""
    with pytest.raises(SettingsError, match=r"tls_cert_file and .*behind_proxy: true") as caught:
        check_listen_address(Api(host=host))
    assert host in str(caught.value)


def test_other_addresses_are_allowed_with_tls_or_a_proxy(tmp_path):
    """Another address is allowed with a certificate or behind a proxy."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.touch()
    key.touch()
    check_listen_address(Api(host="0.0.0.0", tls_cert_file=cert, tls_key_file=key))
    check_listen_address(Api(host="0.0.0.0", behind_proxy=True))


@pytest.mark.parametrize("given", ["tls_cert_file", "tls_key_file"])
def test_tls_needs_both_files(tmp_path, given):
    """TLS needs both files, and both must exist, also on loopback."""
    with pytest.raises(SettingsError, match="both"):
        check_listen_address(Api(**{given: tmp_path / "x.pem"}))
    with pytest.raises(SettingsError, match="does not exist"):
        check_listen_address(Api(tls_cert_file=tmp_path / "x.pem", tls_key_file=tmp_path / "y.pem"))


def test_wildcard_address_allows_addresses_but_no_names():
    """A wildcard listen address allows any IP address as Host, but no name (DNS rebinding)."""
    hosts = AllowedHosts(Api(host="0.0.0.0", behind_proxy=True))
    assert hosts.is_allowed("192.168.1.5:8600")
    assert hosts.is_allowed("[fe80::1]:8600")
    assert not hosts.is_allowed("evil.example")
    assert not hosts.is_allowed("1.2.3.4.evil.example")
