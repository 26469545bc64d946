"""Address checks for outbound connections: resolve a host once, check its addresses, connect to those."""

import asyncio
import ipaddress
import socket
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from trimtab.engine.errors import SettingsError

METADATA_ADDRESSES = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "168.63.129.16"))
)
"""Cloud metadata services outside the link-local range."""


class RefusedAddressError(SettingsError):
    """A host resolves to an address to which nothing may be sent."""


def is_refused(address: str) -> bool:
    """Return whether an address is link-local, multicast, unspecified or a metadata service; IPv4-mapped too.

    >>> is_refused("::ffff:169.254.169.254"), is_refused("fe80::1%eth0"), is_refused("127.0.0.1")
    (True, True, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in METADATA_ADDRESSES


def refuse_unsafe_address(host: str, address: str) -> None:
    """Raise RefusedAddressError if `address`, to which `host` resolves, is refused."""
    if is_refused(address):
        raise RefusedAddressError(
            f"{host} resolves to {address}, which is refused (it is a link-local or metadata address, "
            "multicast or unspecified); use another host"
        )


class PinnedHost:
    """The addresses of one host, resolved once and all checked, to prevent DNS rebinding. Thread-safe.

    The name is resolved again only after every address has failed.

    >>> PinnedHost("127.0.0.1", 9090).resolve()
    '127.0.0.1'
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._addresses: list[str] = []
        self._lock = threading.Lock()

    def resolve(self) -> str:
        """Return the address to connect to. Blocks while the name is resolved.

        Raises OSError if the name cannot be resolved, RefusedAddressError.
        """
        with self._lock:
            if not self._addresses:
                self._addresses = _resolve(self.host, self.port)
            return self._addresses[0]

    async def resolve_async(self) -> str:
        """Return the address to connect to without blocking the event loop. Raises as `resolve`."""
        addresses = self._addresses
        return addresses[0] if addresses else await asyncio.to_thread(self.resolve)

    def discard(self, address: str) -> bool:
        """Discard an address that failed; return whether another one is left."""
        with self._lock:
            self._addresses = [other for other in self._addresses if other != address]
            return bool(self._addresses)


def _resolve(host: str, port: int) -> list[str]:
    try:
        addresses = [str(ipaddress.ip_address(host))]
    except ValueError:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    for address in addresses:
        refuse_unsafe_address(host, address)
    return addresses


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The parts of an http or https URL."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, name: str, url: str) -> "Endpoint":
        """Parse the URL in the setting `name`. Raises SettingsError for an unusable URL.

        >>> Endpoint.parse("writer.remote_write_url", "http://prom:9090/api/v1/write").port
        9090
        """
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise SettingsError(f"{name} is not a URL; write http://host:9090/api/v1/write") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"{name} is not an http or https URL; write http://host:9090/api/v1/write")
        if parts.username is not None or parts.password is not None:
            raise SettingsError(f"{name} contains a user or password; move them to basic_auth")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port, path)

    def url_at(self, address: str) -> str:
        """Return the URL with the host replaced by an IP address."""
        inside = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{inside}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == (443 if self.scheme == "https" else 80)
        return name if default else f"{name}:{self.port}"
