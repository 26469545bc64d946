"""Where a connection goes: a host is resolved once, and connected to by the address that was checked."""

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
"""Cloud metadata services that are not at a link-local address."""


class RefusedAddressError(SettingsError):
    """A name leads to an address that nothing is ever sent to."""


def is_refused(address: str) -> bool:
    """Whether it is link-local, multicast, unspecified or a cloud's metadata service, IPv4 inside IPv6 too.

    >>> is_refused("::ffff:169.254.169.254"), is_refused("fe80::1%eth0"), is_refused("127.0.0.1")
    (True, True, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in METADATA_ADDRESSES


def refuse_unsafe_address(host: str, address: str) -> None:
    """Raises RefusedAddressError for an address that nothing is ever sent to."""
    if is_refused(address):
        raise RefusedAddressError(
            f"{host} leads to {address}, a link-local or metadata address or one of many machines, "
            "which is refused; give another host"
        )


class PinnedHost:
    """The addresses of one host, resolved once and checked all: a later answer of DNS leads nowhere else.

    A name is resolved again only after none of its addresses took a connection. Safe for several threads.

    >>> Pinned("127.0.0.1", 9090).address()
    '127.0.0.1'
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._addresses: list[str] = []
        self._lock = threading.Lock()

    def resolve(self) -> str:
        """The address to connect to. Blocks while the name is resolved.

        Raises OSError where the name leads nowhere, RefusedAddressError.
        """
        with self._lock:
            if not self._addresses:
                self._addresses = _resolve(self.host, self.port)
            return self._addresses[0]

    async def resolve_async(self) -> str:
        """As `address`, without keeping the event loop."""
        known = self._addresses
        return known[0] if known else await asyncio.to_thread(self.resolve)

    def discard(self, address: str) -> bool:
        """Note that nobody took a connection there; whether there is another address to try."""
        with self._lock:
            self._addresses = [one for one in self._addresses if one != address]
            return bool(self._addresses)


def _resolve(host: str, port: int) -> list[str]:
    try:
        addresses = [str(ipaddress.ip_address(host))]
    except ValueError:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        refuse_unsafe_address(host, address)
    return addresses


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL taken apart. Raises SettingsError from `of` where it cannot be used."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, name: str, url: str) -> "Endpoint":
        """The target of the setting `name`.

        >>> Target.of("writer.remote_write_url", "http://prom:9090/api/v1/write").port
        9090
        """
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise SettingsError(f"{name} is no URL; write http://host:9090/api/v1/write") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"{name} is no http or https URL; write http://host:9090/api/v1/write")
        if parts.username is not None or parts.password is not None:
            raise SettingsError(f"{name} holds a user or password; put them into basic_auth")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port, path)

    def url_at(self, address: str) -> str:
        """The URL with the host's address in its place."""
        inside = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{inside}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """What the receiver is to see as Host."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == (443 if self.scheme == "https" else 80)
        return name if default else f"{name}:{self.port}"
