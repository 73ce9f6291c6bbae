"""Protects a server without keys on loopback from web pages.

Every process on the machine may use it, and a browser sends requests there for any page: cross-site request forgery,
visible in `Origin`, and DNS rebinding, visible in `Host`.
"""

import ipaddress

from gateway.errors import HttpError
from gateway.http.cors import origin_error
from gateway.http.request import Request


def check_local(request: Request, origins: frozenset[str] | None) -> None:
    """Raise HttpError for a request that a page of an origin outside `origins` may have made.

    None: of the admin API, which pages of no other origin may use.
    """
    make_a_key = (
        "make a key with `penstock keys new --admin`" if origins is None else "make a key with `penstock keys new`"
    )
    host = (request.header(b"host") or b"").decode("latin1")
    if host and not _is_loopback(host):
        raise HttpError(
            403,
            "host_not_allowed",
            f"Without keys only loopback names are served, such as 127.0.0.1 or localhost, not '{host}'. "
            f"Use one of them, or {make_a_key}.",
            kind="permission_error",
        )
    origin = (request.header(b"origin") or b"").decode("latin1")
    if origin and origin not in (origins or ()) and origin != f"http://{host}":
        if origins is None:
            message = f"Without keys, pages of this browser origin may not use the admin API: {make_a_key}."
            raise HttpError(403, "origin_not_allowed", message, kind="permission_error")
        raise origin_error(f", or {make_a_key}")


def _is_loopback(host: str) -> bool:
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
