"""Where a request goes."""

import pytest

from actors.upstream.http.address import Address, address


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("http://a/v1", Address(False, "a", 80, "/v1/chat/completions"), "a"),
        ("http://a/v1/", Address(False, "a", 80, "/v1/chat/completions"), "a"),
        ("http://a", Address(False, "a", 80, "/chat/completions"), "a"),
        ("http://A:80/v1", Address(False, "a", 80, "/v1/chat/completions"), "a"),
        ("https://a/v1", Address(True, "a", 443, "/v1/chat/completions"), "a"),
        ("https://a:80/v1", Address(True, "a", 80, "/v1/chat/completions"), "a:80"),
        ("http://[::1]:8000/v1", Address(False, "::1", 8000, "/v1/chat/completions"), "[::1]:8000"),
        ("https://[::1]/v1", Address(True, "::1", 443, "/v1/chat/completions"), "[::1]"),
        (
            "https://a:8/x/v1?api-version=2&b=c%20d",
            Address(True, "a", 8, "/x/v1/chat/completions?api-version=2&b=c%20d"),
            "a:8",
        ),
        ("http://bücher.example/v1", Address(False, "xn--bcher-kva.example", 80, "/v1/chat/completions"), None),
        ("http://a/ü b/v1", Address(False, "a", 80, "/%C3%BC%20b/v1/chat/completions"), "a"),
    ],
)
def test_addresses(url: str, expected: Address, authority: str | None) -> None:
    made = address(url, "/chat/completions")
    assert made == expected
    assert made.authority == (authority or made.host)


def test_connections_are_shared_by_scheme_host_and_port() -> None:
    one = address("http://a/v1", "/x")
    assert one.origin == address("http://a:80/v2", "/y").origin
    others = [address(url, "/x").origin for url in ("https://a:80/v1", "http://b/v1", "http://a:81/v1")]
    assert one.origin not in others
