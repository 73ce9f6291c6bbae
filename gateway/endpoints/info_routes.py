"""The routes that are not time-critical, in quart: models, health, metrics, the console."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from actors.api.errors import BadKey, ErrorBody
from gateway.anthropic.errors import is_anthropic
from gateway.anthropic.model_list import chosen_models, model_fields, model_page
from gateway.console.console_files import HEADERS, PAGE, ConsoleFile, console_files
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.api_description import add_description
from gateway.endpoints.quart_app import answer_errors, create_app, head, json_response
from gateway.errors import HttpError
from gateway.example_request import example_request
from gateway.telemetry.metrics import CONTENT_TYPE, exposition

NOT_FOUND = (
    "not_found",
    "There is nothing at this address. The OpenAI API and Anthropic's Messages API are under /v1.",
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def create_info_app(api: ApiContext, connections: Callable[[], int]) -> QuartTrio:
    """The quart app. Where there are keys, all but the health probes and the console's files need one.

    `/metrics` needs one of an operator or a scraper.
    """
    app = create_app("penstock")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    shown = console_files()

    def refused(error: ErrorBody) -> bytes:
        return api.refused(error, head())

    @app.get("/livez")
    async def livez() -> Response:
        return json_response({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        readiness = api.service.readiness()
        name = request.args.get("model")
        if name is None:
            engines = {name: {"state": each.state, "why": each.why} for name, each in readiness.engines.items()}
            models = {name: each.ready for name, each in readiness.models.items()}
            return _ready_or_not(readiness.ready, state=readiness.state, engines=engines, models=models)
        model = readiness.models.get(name)
        if model is None:
            raise HttpError(404, "model_not_found", "No model has that name.", param="model")
        return _ready_or_not(model.ready, state=readiness.state, model=name, rungs=dict(model.rungs))

    @app.get("/health")
    async def health() -> Response:
        """As in vLLM, without a body: benchmark tools call it first."""
        return Response(b"", 200 if api.service.readiness().ready else 503, content_type="text/plain")

    @app.route("/ping", methods=["GET", "POST"])
    async def ping() -> Response:
        """SageMaker's health check."""
        return await health()

    @app.get("/version")
    async def version() -> Response:
        return json_response({"version": importlib.metadata.version("penstock")})

    @app.get("/v1/models")
    async def models() -> Response:
        cards = api.service.models(head().key)
        if is_anthropic(head()):
            return json_response(model_page(cards, request.args))
        # OpenAI's API has no pages; who asks for one gets it all the same.
        shown = chosen_models(cards, request.args, len(cards)).shown
        return json_response({"object": "list", "data": [_model(card) for card in shown]})

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> Response:
        for card in api.service.models(head().key):
            if card.id == name.rstrip("/"):
                return json_response(model_fields(card) if is_anthropic(head()) else _model(card))
        raise HttpError(
            404, "model_not_found", "No model has that name. GET /v1/models lists the names.", param="model"
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        api.service.clients.check_scraper(head().key)
        return Response(exposition(api.service, connections), content_type=CONTENT_TYPE)

    @app.get("/")
    async def console() -> Response:
        """The page for browsers; for other clients plain text. Neither needs a key: nothing in them is secret."""
        if "text/html" in request.headers.get("accept", ""):
            response = _console_file(shown[PAGE])
        else:
            host = request.headers.get("host", "127.0.0.1:8080")
            response = Response(_welcome(api, host), content_type="text/plain; charset=utf-8")
        response.headers["vary"] = "accept"
        return response

    @app.get("/console/<path:name>")
    async def console_file(name: str) -> Response:
        file = shown.get(name)
        if file is None or name == PAGE:
            raise HttpError(404, *NOT_FOUND)
        return _console_file(file)

    add_description(app, lambda: api.service.clients.keyless)
    answer_errors(app, NOT_FOUND, _TYPES, refused, api.error_format)
    return app


def _ready_or_not(ready: bool, **body: Any) -> Response:
    return json_response({"status": "ready" if ready else "not ready", **body}, 200 if ready else 503)


def _model(card: Any) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "penstock",
        "max_model_len": card.max_model_len,
        "description": card.description,
        "parent": card.parent,
        "available": card.available,
    }


def _console_file(file: ConsoleFile) -> Response:
    """The file; 304 for a client that has it."""
    known = request.if_none_match.contains_weak(file.etag)
    response = Response(b"" if known else file.content, 304 if known else 200, content_type=file.content_type)
    response.headers.update(HEADERS)
    response.set_etag(file.etag)
    return response


def _welcome(api: ApiContext, host: str) -> str:
    try:
        cards = api.service.models(head().key)
    except BadKey:
        cards = ()
    model = cards[0].id if cards else "MODEL"
    return _WELCOME.format(
        version=importlib.metadata.version("penstock"),
        state=api.service.readiness().state,
        command=example_request(f"http://{host}", model, key=not api.service.clients.keyless, path=api.example),
        host=host,
    )


_WELCOME = """\
Penstock {version}, {state}. In a browser this address is a console: http://{host}/

Try it:
  {command}

OpenAI:    /v1/chat/completions /v1/completions /v1/embeddings /v1/moderations /v1/responses /v1/batches /v1/models
Anthropic: /v1/messages
vLLM:      /rerank /score /classify /tokenize /detokenize
Penstock:  /v1/decisions, and a WebSocket at /v1/stream
All:       /docs /openapi.json
Health:    /livez /readyz /metrics
"""
