"""Checks of the listen address and of the Host header."""

import ipaddress

from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Api


def is_loopback(host: str) -> bool:
    """Return whether an address or host name is loopback.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def check_listen_address(settings: Api) -> None:
    """Raise SettingsError for a non-loopback address without TLS or a reverse proxy."""
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if (cert is None) != (key is None):
        missing = "tls_key_file" if key is None else "tls_cert_file"
        raise SettingsError(
            f"api.{missing} is missing: TLS needs both api.tls_cert_file and api.tls_key_file"
        )
    for name, path in (("tls_cert_file", cert), ("tls_key_file", key)):
        if path is not None and not path.expanduser().is_file():
            raise SettingsError(f"api.{name} {path} does not exist")
    if is_loopback(settings.host) or cert is not None or settings.behind_proxy:
        return
    raise SettingsError(
        f"api.host {settings.host} is reachable from other machines, and keys would be sent unencrypted. "
        "Either listen on 127.0.0.1, or set api.tls_cert_file and api.tls_key_file, or, when a proxy "
        "in front authenticates and speaks TLS, set api.behind_proxy: true"
    )


def base_url(settings: Api, port: int) -> str:
    """Return the URL of the API for a browser on this machine.

    >>> base_url(Api(host="0.0.0.0"), 8600), base_url(Api(host="[::1]"), 80)
    ('http://127.0.0.1:8600', 'http://[::1]:80')
    """
    host = settings.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class AllowedHosts:
    """Host names that a Host header may contain, against DNS rebinding.

    >>> hosts = AllowedHosts(Api(allowed_hosts=("trim.example",)))
    >>> hosts.is_allowed("localhost:8600"), hosts.is_allowed("trim.example"), hosts.is_allowed("evil.example")
    (True, True, False)
    """

    def __init__(self, settings: Api) -> None:
        self._names = {"localhost", "127.0.0.1", "::1", settings.host.lower().strip("[]")}
        self._names |= {name.lower().strip("[]") for name in settings.allowed_hosts}
        bound = _address(settings.host)
        self._any_address = bound is not None and bound.is_unspecified

    def is_allowed(self, header: str) -> bool:
        """Return whether a Host header is allowed. If bound to all addresses, any IP address is allowed."""
        name = host_name(header)
        return name in self._names or (self._any_address and _address(name) is not None)


def host_name(header: str) -> str:
    """Return the host of a Host header, without its port.

    >>> host_name("[::1]:8600"), host_name("LocalHost:80"), host_name("::1")
    ('::1', 'localhost', '::1')
    """
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text if text.count(":") > 1 else text.partition(":")[0]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
