"""Where a request is sent: the server and the request target of a URL (RFC 9112, section 3.2). Sans-IO."""

from functools import lru_cache
from urllib.parse import quote, urlsplit

import msgspec

_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:@!$&'()*+,;=~"


class Address(msgspec.Struct, frozen=True):
    """A server, and a resource on it."""

    tls: bool
    host: str
    """As it is resolved and compared with certificates: without brackets, in ASCII."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """Addresses of one origin share connections."""
        return self.tls, self.host, self.port


@lru_cache(maxsize=1024)
def address(url: str, path: str) -> Address:
    """The address of `path` under a checked URL, whose query is kept."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    target = quote(parts.path.rstrip("/") + path, safe=_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE + "?")
    return Address(parts.scheme == "https", host, parts.port or _PORTS[parts.scheme], target)
