"""Who is at the other end, as far as its address tells."""

import ipaddress
from collections.abc import Sequence

_HOST_BITS_V6 = 64
"""What one subscriber usually has of IPv6 is a network of so many bits: its addresses count as one peer."""


class PeerNames:
    """Names peers by their addresses; those that stand for many others, such as proxies, have no name."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """`trusted`: addresses and networks of proxies."""
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted]

    def name(self, host: str) -> str:
        """The name of the peer with this numeric address; "" for loopback and for trusted proxies."""
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
