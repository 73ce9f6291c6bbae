"""Chooses the handler of each request from its head: time-critical paths by table, all others in quart."""

from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_to_bytes

from actors.api.errors import Refusal
from config.model.tenancy import KeyEndpoint
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.batches.batches import BATCHES, BatchHandler
from gateway.endpoints.batches.batches import methods_of as batch_methods
from gateway.endpoints.batches.files import FILES, FileHandler
from gateway.endpoints.batches.files import methods_of as file_methods
from gateway.endpoints.completions import CHAT, COMPLETION, MESSAGE, CompletionHandler
from gateway.endpoints.info_routes import NOT_FOUND, create_info_app
from gateway.endpoints.kept_answers import STREAMS, StreamHandler
from gateway.endpoints.kept_answers import methods_of as stream_methods
from gateway.endpoints.responses.conversations import CONVERSATIONS, ConversationHandler
from gateway.endpoints.responses.conversations import methods_of as conversation_methods
from gateway.endpoints.responses.response_socket import ResponseSession
from gateway.endpoints.responses.responses import RESPONSE, RESPONSES, InputTokensHandler, ResponseHandler
from gateway.endpoints.responses.stored_responses import StoredResponseHandler
from gateway.endpoints.responses.stored_responses import methods_of as response_methods
from gateway.endpoints.socket_session import SocketHandler
from gateway.endpoints.token_count import TokenCountHandler
from gateway.endpoints.tokenization import DetokenizeHandler, TokenizeHandler
from gateway.endpoints.vectors.decisions import DecisionCall
from gateway.endpoints.vectors.embeddings import EmbeddingCall
from gateway.endpoints.vectors.moderations import ModerationCall
from gateway.endpoints.vectors.scoring import SCORING, ScoringCall
from gateway.endpoints.vectors.vector_answer import VectorHandler
from gateway.endpoints.ws_session import StreamSession
from gateway.errors import HttpError
from gateway.http.asgi import AsgiRoute
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.cors import Cors
from gateway.http.gate import Handler, RefusedHandler, Route
from gateway.http.loopback import check_local
from gateway.http.request import Request
from gateway.openai.requests.json_body import check_content_encoding, check_content_type


class Routes:
    """The routing function of the server. It checks origin, address, method, key and kind of body, in this order."""

    def __init__(self, api: ApiContext, limits: ServerLimits, origins: frozenset[str]) -> None:
        """`origins`: web pages of these origins may use the server."""
        self._origins = origins
        self._cors = Cors(origins)
        self._api = api
        self._service = api.service
        self.connections: Callable[[], int] = lambda: 0
        """Number of open connections, for `/metrics`; set when the server exists."""
        app = create_info_app(api, lambda: self.connections())  # noqa: PLW0108  (set later)
        self._info_app = AsgiRoute(app)
        # Quart's own routing takes some fifty times as long, so unknown addresses are refused without it.
        rules = [(*rule.rule.encode().partition(b"<")[:2], rule.methods or set()) for rule in app.url_map.iter_rules()]
        self._cold = {path: methods for path, parameter, methods in rules if not parameter}
        self._cold_folders = [(path, methods) for path, parameter, methods in rules if parameter]
        endpoints = (CHAT, COMPLETION, MESSAGE)
        completions = {endpoint.name: CompletionHandler(api, endpoint) for endpoint in endpoints}
        responses = completions[RESPONSE.name] = ResponseHandler(api)
        self._streams = StreamHandler(api, {name: handler.answer for name, handler in completions.items()})
        conversations = ConversationHandler(api)
        files, batches = FileHandler(api), BatchHandler(api)
        self._uploads = {FILES: files.most_bytes}
        """Most bytes of a body that is read in pieces, by the address that is posted to."""
        response_socket = SocketHandler(api, limits, origins, partial(ResponseSession, responses))
        self.folders: tuple[tuple[bytes, Callable[[bytes], bytes], Handler, KeyEndpoint | None], ...] = (
            (STREAMS, stream_methods, self._streams, None),
            (RESPONSES, response_methods, StoredResponseHandler(api, responses), "responses"),
            (CONVERSATIONS + b"/", conversation_methods, conversations, "responses"),
            (FILES + b"/", file_methods, files, "batch"),
            (BATCHES + b"/", batch_methods, batches, "batch"),
        )
        """Beginning of the address, the methods of an address below it, handler, and what a key must permit."""
        tokenize, detokenize = TokenizeHandler(api), DetokenizeHandler(api)
        self.hot: dict[bytes, tuple[bytes, Handler, KeyEndpoint | None]] = {
            b"/v1/chat/completions": (b"POST", completions[CHAT.name], "chat"),
            b"/v1/completions": (b"POST", completions[COMPLETION.name], "completions"),
            b"/v1/messages": (b"POST", completions[MESSAGE.name], "chat"),
            b"/v1/messages/count_tokens": (b"POST", TokenCountHandler(api), "chat"),
            b"/v1/embeddings": (b"POST", VectorHandler(api, partial(EmbeddingCall, api)), "embeddings"),
            b"/v1/responses": (b"GET, POST", _by_method(response_socket, responses), "responses"),
            b"/v1/responses/input_tokens": (b"POST", InputTokensHandler(api, responses), "responses"),
            CONVERSATIONS: (b"POST", conversations, "responses"),
            FILES: (b"GET, POST", files, "batch"),
            BATCHES: (b"GET, POST", batches, "batch"),
            b"/tokenize": (b"POST", tokenize, "tokenize"),
            b"/v1/tokenize": (b"POST", tokenize, "tokenize"),
            b"/detokenize": (b"POST", detokenize, "tokenize"),
            b"/v1/detokenize": (b"POST", detokenize, "tokenize"),
            b"/v1/moderations": (b"POST", VectorHandler(api, partial(ModerationCall, api)), "moderations"),
            b"/v1/decisions": (b"POST", VectorHandler(api, partial(DecisionCall, api)), "decisions"),
            **{
                path.encode(): (b"POST", VectorHandler(api, partial(ScoringCall, api, each)), "scores")
                for path, each in SCORING.items()
            },
            b"/v1/stream": (b"GET", SocketHandler(api, limits, origins, StreamSession), None),
        }

    def __call__(self, request: Request) -> Route:
        """The route of a request whose head is complete. Never raises: a refusal is a route, too."""
        origin = request.header(b"origin")
        lines = self._cors.lines(origin)
        try:
            keyless = self._service.clients.keyless
            if keyless:
                check_local(request, self._origins)
            if self._cors.is_preflight(request, origin):
                return Route(self._cors.answer_preflight, lines=lines)
            hot = self.hot.get(request.path.removesuffix(b"/"))
            if hot is None:
                for folder, methods_of, below, key_endpoint in self.folders:
                    if request.path.startswith(folder) and (allowed := methods_of(request.path)):
                        hot = (allowed, below, key_endpoint)
            if hot is None:
                return self._to_info_app(request, lines)
            methods, handler, endpoint = hot
            if request.method != methods and request.method not in methods.split(b", "):
                return self._refused(request, _wrong_method(methods.decode()), lines, allow=methods)
            return self._work(request, handler, endpoint, lines, keyless=keyless)
        except Refusal as refusal:
            return self._refused(request, refusal, lines)

    def _work(
        self, request: Request, handler: Handler, endpoint: KeyEndpoint | None, lines: bytes, *, keyless: bool
    ) -> Route:
        key = request.key
        tiers_above = self._service.clients.tiers_above(key, endpoint)
        reads = request.method == b"POST"
        if reads:
            check_content_encoding(request.header(b"content-encoding"))
        piecewise = self._uploads.get(request.path.removesuffix(b"/"), 0) if reads else 0
        if reads and not piecewise:
            check_content_type(request.header(b"content-type"))
        name = "" if keyless else key or ""
        return Route(handler, reads, piecewise=piecewise, works=True, key=name, tiers_above=tiers_above, lines=lines)

    def _to_info_app(self, request: Request, lines: bytes) -> Route:
        path = unquote_to_bytes(request.path).removesuffix(b"/") or b"/"
        methods = self._cold.get(path)
        if methods is None:
            for folder, allowed in self._cold_folders:
                if path.startswith(folder) and path != folder:
                    methods = allowed
        if methods is None:
            return self._refused(request, HttpError(404, *NOT_FOUND), lines)
        if request.method.decode("latin1") not in methods:
            allowed_here = ", ".join(sorted(methods))
            return self._refused(request, _wrong_method(allowed_here), lines, allow=allowed_here.encode())
        return Route(self._info_app, lines=lines)

    def _refused(self, request: Request, refusal: Refusal, lines: bytes, *, allow: bytes = b"") -> Route:
        headers = self._api.refused(refusal.body, request)
        if allow:
            headers += b"allow: %b\r\n" % allow
        return Route(RefusedHandler(refusal.body, headers), lines=lines)


def _by_method(get: Handler, post: Handler) -> Handler:
    async def handle(connection: Connection, request: Request) -> None:
        await (post if request.method == b"POST" else get)(connection, request)

    return handle


def _wrong_method(allowed: str) -> HttpError:
    return HttpError(405, "method_not_allowed", f"Use {allowed} here.")
