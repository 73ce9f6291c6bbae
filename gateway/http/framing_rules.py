"""Refuses heads whose body length other servers or proxies could understand differently (request smuggling).

RFC 9112, 6.1 and 6.3, RFC 9110, 8.4, and RFC 6455, 4.1. What llhttp itself refuses (two or malformed
lengths, a length beside an encoding, folded lines, bare line feeds, spaces before a colon) is not checked again.
"""

from gateway.errors import HttpError
from gateway.http.request import Request


def check_head(request: Request, *, is_upgrade: bool) -> int | None:
    """The body length that the head states, if any. Raises `HttpError` if the body must not be read."""
    if request.version not in {"1.0", "1.1"}:
        raise HttpError(505, "http_version_not_supported", "This server supports HTTP/1.1 and HTTP/1.0.")
    if request.repeats(b"host") or (request.version == "1.1" and request.header(b"host") is None):
        raise HttpError(400, "bad_request", "An HTTP/1.1 request needs exactly one Host header.")
    if request.repeats(b"authorization"):
        raise HttpError(400, "bad_request", "A request may have only one Authorization header.")
    coded = request.header(b"transfer-encoding") is not None
    if coded:
        _check_codings(request)
    # llhttp has checked that there is only one, of digits.
    stated = request.header(b"content-length")
    length = None if stated is None else int(stated)
    if is_upgrade and request.method == b"GET" and (coded or length):
        raise HttpError(
            400,
            "body_not_allowed",
            "A WebSocket handshake has no body: leave Content-Length and Transfer-Encoding out.",
        )
    return length


def _check_codings(request: Request) -> None:
    values = [value for name, value in request.headers if name == b"transfer-encoding"]
    codings = [coding.strip().lower() for coding in b",".join(values).split(b",")]
    if request.version == "1.0":
        raise HttpError(400, "bad_request", "HTTP/1.0 has no Transfer-Encoding: send Content-Length.")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise HttpError(
            400, "bad_request", "The last coding in Transfer-Encoding must be 'chunked', and only the last."
        )
    if len(codings) > 1:
        raise HttpError(
            501,
            "transfer_encoding_not_supported",
            "The only supported transfer coding is 'chunked': send the body without compression.",
        )
