"""The routes that are not time-critical, in quart: models, health, metrics, a start page."""

import html
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from actors.api.errors import BadKey, ErrorBody
from actors.service_view import ModelCard
from gateway.anthropic.errors import is_anthropic
from gateway.anthropic.model_list import chosen_models, model_fields, model_page
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.api_description import add_description
from gateway.endpoints.quart_app import answer_errors, create_app, head, json_response
from gateway.errors import HttpError
from gateway.example_request import KEY_VARIABLE, example_request
from gateway.telemetry.metrics import CONTENT_TYPE, exposition

NOT_FOUND = (
    "not_found",
    "There is nothing at this address. The OpenAI API and Anthropic's Messages API are under /v1.",
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def create_info_app(api: ApiContext, connections: Callable[[], int]) -> QuartTrio:
    """The quart app. If keys are configured, all but the health probes need one; `/metrics` needs a metrics key."""
    app = create_app("penstock")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

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
        api.service.check_scraper(head().key)
        return Response(exposition(api.service, connections), content_type=CONTENT_TYPE)

    @app.get("/")
    async def landing() -> Response:
        host = request.headers.get("host", "127.0.0.1:8080")
        status = 200
        try:
            cards = api.service.models(head().key)
        except BadKey as refusal:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            # A browser cannot send a key, so the page says how to.
            refused(refusal.body)
            page, status = _keyed_page(host, refusal), refusal.body.status
        else:
            page = _page(api, host, cards)
        return Response(page, status, content_type="text/html; charset=utf-8")

    add_description(app, lambda: api.service.keyless)
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


def _page(api: ApiContext, host: str, cards: Sequence[ModelCard]) -> str:
    readiness = api.service.readiness()
    rows = "".join(f"<tr><td><code>{html.escape(card.id)}</code><td>{html.escape(card.description)}" for card in cards)
    engines = "".join(
        f"<tr><td>{html.escape(name)}<td>{html.escape(each.state)}" for name, each in readiness.engines.items()
    )
    model = cards[0].id if cards else "MODEL"
    command = example_request(f"http://{host}", model, key=not api.service.keyless, path=api.example)
    return _PAGE.format(
        version=importlib.metadata.version("penstock"),
        rows=rows,
        engines=engines,
        state=html.escape(readiness.state),
        command=html.escape(command),
        style=_STYLE,
    )


def _keyed_page(host: str, refusal: BadKey) -> str:
    return _KEYED.format(
        style=_STYLE,
        message=html.escape(refusal.body.message),
        variable=KEY_VARIABLE,
        command=html.escape(f'curl http://{host}/v1/models -H "authorization: Bearer ${KEY_VARIABLE}"'),
    )


_STYLE = """<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2733 }
h1 { font-weight: 600; margin-bottom: 0 } h2 { font-size: 1rem; margin-top: 2rem }
table { border-collapse: collapse } td { padding: .2rem 1.5rem .2rem 0; vertical-align: top }
pre { background: #f2f5f7; padding: 1rem; border-radius: 4px; font-size: 14px }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
p.small { color: #5a6b7b; margin-top: 0 }
</style>"""
_KEYED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Penstock</title>
{style}
<h1>Penstock</h1>
<p class="small">This server needs an API key.
<p>{message}
<p>The operator creates one with <code>penstock keys new --tenant NAME</code>. With the key in <code>{variable}</code>,
this command lists the models:
<pre>{command}</pre>
<p>The health checks need no key: <a href="/livez"><code>/livez</code></a>,
<a href="/readyz"><code>/readyz</code></a>.
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Penstock</title>
{style}
<h1>Penstock</h1>
<p class="small">A streaming gateway for language models with the engines inside it. Version {version}, {state}.
<h2>Models</h2><table>{rows}</table>
<h2>Engines</h2><table>{engines}</table>
<h2>Try it</h2><pre>{command}</pre>
<p>The addresses are the OpenAI API's: <code>/v1/chat/completions</code>, <code>/v1/completions</code>,
<code>/v1/embeddings</code>, <a href="/v1/models"><code>/v1/models</code></a>; Anthropic's: <code>/v1/messages</code>;
vLLM's: <code>/rerank</code>, <code>/score</code>, <code>/classify</code>,
<code>/tokenize</code>, <code>/detokenize</code>;
a WebSocket at <code>/v1/stream</code>;
<a href="/livez"><code>/livez</code></a>, <a href="/readyz"><code>/readyz</code></a>,
<a href="/metrics"><code>/metrics</code></a>; all of them: <a href="/docs"><code>/docs</code></a>,
<a href="/openapi.json"><code>/openapi.json</code></a>.
"""
