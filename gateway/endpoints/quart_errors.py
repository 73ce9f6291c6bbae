"""Errors of the sites in quart, in the API's own words."""

from collections.abc import Callable, Mapping

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from actors.api.errors import ErrorBody, Refusal
from gateway.http.response_head import error_headers, error_object


def answer_errors(
    app: QuartTrio,
    words: Mapping[int, tuple[str, str]],
    kinds: Mapping[int, str],
    refused: Callable[[ErrorBody], bytes] = lambda _: b"",
) -> None:
    """Refusals as they are; other statuses by `words` (code and message) and `kinds` (the error's type).

    `refused` is told of each, and gives header lines for the answer.
    """

    @app.errorhandler(Refusal)
    async def refuse(refusal: Refusal) -> Response:
        return _response(refusal.body, refused(refusal.body))

    @app.errorhandler(HTTPException)
    async def wrong(error: HTTPException) -> Response:
        status = error.code or 500
        code, message = words.get(status, ("bad_request", "The request could not be served."))
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        body = ErrorBody(status, kind, code, message, should_retry=status >= 500)
        return _response(body, refused(body))


def _response(error: ErrorBody, lines: bytes) -> Response:
    response = Response(error_object(error), error.status)
    for line in (error_headers(error) + lines).decode().splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value
    return response
