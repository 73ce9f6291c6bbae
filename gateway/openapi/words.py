"""The sentences of the document that belong to no single operation."""

from collections.abc import Mapping

INTRODUCTION = """\
Every address of the server: OpenAI's API, Anthropic's Messages API, vLLM's addresses, health probes and the admin API.

**Keys.** `Authorization: Bearer KEY` or `x-api-key: KEY`. A server without keys serves its own machine only, and then \
none is needed.

**Bodies** are JSON in UTF-8 (of an upload: a form), not compressed. An unknown field is refused by name; \
`null` counts as absent.

**Errors** say what was wrong and what to do. They have the format of the API that the request is for: Anthropic's for \
`/v1/messages` and for requests with the header `anthropic-version`, OpenAI's for all others. Programs should look at \
`code`, which is stable. `retry-after` is measured.

**Streams** are server-sent events (`text/event-stream`). The schema is that of one event, whose `data` is \
JSON (`contentSchema`). Streams of OpenAI's API end with `data: [DONE]`; one that breaks off ends with an error as its \
last event and without it. Lines that begin with a colon are heartbeats.

**Answers that outlive their connection.** With `Idempotency-Key`, `x-penstock-resumable` or `x-penstock-background` \
an answer is kept. Its events have numbers (`id:`), and `Last-Event-ID` or `after` says behind which one to go on.

**WebSockets.** `GET /v1/stream` (many requests on one connection) and `GET /v1/responses` (the Responses API) switch \
to the WebSocket protocol (101); OpenAPI has no words for their messages, which are in the documentation. Browsers \
offer the key as a subprotocol, `penstock-key.KEY`.

**Not here:** HEAD, which is answered wherever GET is; preflight requests (OPTIONS) of allowed origins.
"""

CHAT, MESSAGES, RESPONSES = "Chat and text", "Messages (Anthropic)", "Responses"
EMBEDDINGS, SCORES, TOKENS = "Embeddings", "Reranking, scores and labels", "Tokens"
BATCHES, JUDGING = "Files and batches", "Moderations and decisions"
KEPT, MODELS, SERVER, ADMIN = "Kept answers", "Models", "The server", "Admin API"
TAGS: Mapping[str, str] = {
    CHAT: "OpenAI's chat completions and completions; the WebSocket for many requests.",
    RESPONSES: "OpenAI's Responses API, with stored responses and conversations.",
    MESSAGES: "Anthropic's Messages API.",
    EMBEDDINGS: "Vectors of texts.",
    SCORES: "How relevant or similar texts are, and their labels.",
    JUDGING: "What a text is, by a classifier, or by the probabilities of a model's answers.",
    BATCHES: "Many requests in one file, answered when the server has time.",
    TOKENS: "The tokens of a prompt, and the text of tokens.",
    KEPT: "Answers that go on without their client.",
    MODELS: "What clients may put into `model`.",
    SERVER: "Health, version, metrics, this document.",
    ADMIN: "For operators, on a port of its own.",
}

ERROR_TEXTS: Mapping[int, str] = {
    400: "The request cannot be served as it is; `param` names the field or header.",
    401: "The key is missing, unknown, revoked or expired.",
    403: "The key does not open this, or the page's origin or the host is not allowed.",
    404: "There is no such address, model or id, or it belongs to another tenant.",
    405: "The address exists, and has other methods: those of the header `allow`.",
    408: "The body did not arrive in time.",
    409: "The present state does not allow it.",
    413: "The body is too large, or has too many values.",
    415: "The body is not what this address reads, JSON in UTF-8 or a form; or it is compressed.",
    422: "The Idempotency-Key stands for another request; or the request was running when engines crashed.",
    426: "The address is a WebSocket's: send a handshake.",
    429: "A limit of the tenant, its budget, or the queue is used up; `retry-after` says until when.",
    431: "The head of the request is too large.",
    500: "The server failed on this request; its log says why.",
    501: "The transfer encoding is not supported.",
    503: "Nothing can serve this now: models load, the server drains, or every rung has failed.",
    504: "A deadline of the route has passed before any content.",
    507: "The server's storage for files is full.",
    505: "HTTP/1.1 and HTTP/1.0 are supported.",
}
"""By status."""
