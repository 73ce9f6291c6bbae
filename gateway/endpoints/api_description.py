"""`/openapi.json` and `/docs`: the API's description for programs and for people."""

import hashlib
from collections.abc import Callable
from functools import cache, partial

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from actors.kernel.thread_bridge import LongWork
from gateway.endpoints.operations.all_operations import described
from gateway.openapi.page import page_of, page_policy


class Rendered(msgspec.Struct, frozen=True):
    """A body with its validator, as both are sent."""

    body: bytes
    etag: str


@cache
def rendered_document(*, keyless: bool) -> Rendered:
    """The document as JSON, made once."""
    return _rendered(msgspec.json.encode(described(keyless=keyless)))


@cache
def rendered_page(*, keyless: bool) -> Rendered:
    """The page, made once."""
    return _rendered(page_of(described(keyless=keyless)).encode())


def add_description(app: QuartTrio, keyless: Callable[[], bool]) -> None:
    """Add both addresses. They need no key: nothing in them is of this server but whether keys are needed.

    Both are made when they are first asked for, in a thread, so that no stream waits meanwhile.
    """
    work = LongWork(at_once=1)

    @app.get("/openapi.json")
    async def document() -> Response:
        return _answer(await work.run(partial(rendered_document, keyless=keyless())), "application/json")

    @app.get("/docs")
    async def page() -> Response:
        response = _answer(await work.run(partial(rendered_page, keyless=keyless())), "text/html; charset=utf-8")
        response.headers["content-security-policy"] = page_policy()
        response.headers["x-content-type-options"] = "nosniff"
        return response


def _rendered(body: bytes) -> Rendered:
    return Rendered(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _answer(rendered: Rendered, content_type: str) -> Response:
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if rendered.etag in known or "*" in known:
        response = Response(b"", 304, content_type=content_type)
    else:
        response = Response(rendered.body, content_type=content_type)
    response.headers["etag"] = rendered.etag
    response.headers["cache-control"] = "no-cache"
    return response
