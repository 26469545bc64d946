"""Fake DNS answers."""

import socket
from ipaddress import ip_address

import pytest


def patch_dns(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Resolve every name to these addresses, or to none; return the list of resolved names."""
    resolved: list[str] = []
    lookup = socket.getaddrinfo

    def resolve(host, port, *args, **more):
        try:
            ip_address(host)
        except ValueError:
            resolved.append(host)
        else:
            return lookup(host, port, *args, **more)
        if not addresses:
            raise OSError("Name or service not known")
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return resolved
