"""What the quart apps share: their settings, the parsed request, JSON, and errors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from actors.api.errors import ErrorBody, Refusal
from gateway.http.asgi import STATE
from gateway.http.connection import ErrorFormat
from gateway.http.request import Request
from gateway.http.response_head import error_headers, error_object


def create_app(name: str) -> QuartTrio:
    """An app without addresses."""
    app = QuartTrio(name, static_folder=None)
    # Quart's own timeouts are off: the service has deadlines.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["BODY_TIMEOUT"] = None
    return app


def head() -> Request:
    """The request in hand as the server has parsed it."""
    parsed: Request = request.scope["state"][STATE]
    return parsed


def json_response(value: Any, status: int = 200) -> Response:
    """`value` may hold paths."""
    return Response(msgspec.json.encode(value, enc_hook=_plain), status, content_type="application/json")


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def answer_errors(
    app: QuartTrio,
    not_found: tuple[str, str],
    kinds: Mapping[int, str],
    refused: Callable[[ErrorBody], bytes] = lambda _: b"",
    error_format: ErrorFormat = error_object,
) -> None:
    """Add error handlers: for refusals, unknown addresses (`not_found`: code, message) and methods, other statuses.

    `kinds`: the error type by status. `refused` is called with each error; it returns header lines for the answer.
    """
    words = {404: not_found, 405: ("method_not_allowed", "This address does not support that method.")}

    @app.errorhandler(Refusal)
    async def refuse(refusal: Refusal) -> Response:
        return answered(refusal.body)

    @app.errorhandler(HTTPException)
    async def wrong(error: HTTPException) -> Response:
        status = error.code or 500
        code, message = words.get(status, ("bad_request", "The request could not be served."))
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        response = answered(ErrorBody(status, kind, code, message, should_retry=status >= 500))
        if isinstance(error, MethodNotAllowed):
            # RFC 9110, 15.5.6
            response.headers["allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response

    def answered(error: ErrorBody) -> Response:
        return _response(error, error_format(error, head()), refused(error))


def _response(error: ErrorBody, body: bytes, lines: bytes) -> Response:
    response = Response(body, error.status)
    for line in (error_headers(error) + lines).decode().splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value
    return response
