"""Names peers by their addresses."""

import ipaddress
from collections.abc import Sequence

_HOST_BITS_V6 = 64
"""One subscriber usually has an IPv6 network of this many bits: its addresses count as one peer."""


class PeerNames:
    """Names peers; loopback and trusted proxies, which stand for many clients, have no name."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted]

    def name(self, host: str) -> str:
        """The peer's name for a numeric address; "" for loopback and trusted proxies."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback or any(address in network for network in self._trusted):
            return ""
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 128 - _HOST_BITS_V6), strict=False))
        return str(address)
