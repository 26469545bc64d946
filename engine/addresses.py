"""Addresses that nothing is ever sent to, whatever name leads there."""

import ipaddress

METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "168.63.129.16")))
"""Cloud metadata services that are not at a link-local address."""


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Without its zone; of an IPv4 address inside an IPv6 one the inner."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def is_refused(address: str) -> bool:
    """Whether it is link-local, multicast or a cloud's metadata service, IPv4 inside IPv6 too.

    >>> is_refused("::ffff:169.254.169.254"), is_refused("fe80::1%eth0"), is_refused("127.0.0.1")
    (True, True, False)
    """
    ip = ip_of(address)
    return ip.is_link_local or ip.is_multicast or ip in METADATA
