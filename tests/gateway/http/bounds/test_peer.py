"""Under which name a peer is counted."""

import pytest

from gateway.http.bounds.peer import PeerNames


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.8.8.8", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("10.1.2.3", ""),
        ("192.0.2.1", ""),
        ("192.0.2.2", "192.0.2.2"),
        ("", ""),
    ],
)
def test_names_of_peers(host: str, name: str) -> None:
    assert PeerNames(("10.0.0.0/8", "192.0.2.1")).name(host) == name
