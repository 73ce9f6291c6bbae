"""What all ways to ask have in common: who asks, and the request's identity."""

import secrets
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from actors.api.errors import ErrorBody, Refusal
from actors.api.request import EmbeddingParams, InferenceRequest, Prompt
from actors.api.response import DecisionInfo
from actors.service import Service
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.endpoints.refusal_log import RefusalLog
from gateway.errors import HttpError
from gateway.http.request import KEY_HEADERS, Request
from gateway.openai.responses.completion import Identity
from gateway.openai.responses.decision_headers import DecisionHeaders

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MAX_TAGS = 16
_MAX_TAG_CHARACTERS = 64
log = structlog.get_logger()


class ApiContext(msgspec.Struct, frozen=True, kw_only=True):
    """The service and what the edge must know of the configuration."""

    service: Service
    max_choices: int
    max_inputs: int
    embeds_only: bool = False
    """No engine answers: all of them make embeddings."""
    shows_served: bool = False
    """The field `model` of an answer is the name of the model that served, not the one that was asked for."""

    def edge_line(self, request_id: str, path: str, arrived_at: float, key: str | None) -> RefusalLog:
        """Around the reading of a request."""
        return RefusalLog(self.service, request_id, path, arrived_at, key)

    def told(self, request_id: str, key: str | None) -> DecisionHeaders:
        """What the head of a request's answer will say."""
        return DecisionHeaders(request_id, DecisionInfo(self.service.policy), partial(self.service.rate_limits, key))

    def refused(self, error: ErrorBody, path: str, arrived_at: float | None, key: str | None) -> bytes:
        """Write the log's line of what the edge refuses by itself; header lines for the answer."""
        request_id = new_request_id()
        log.debug("request_refused", request_id=request_id, code=error.code, status=error.status)
        tenant = self.service.known_tenant(key)
        self.service.request_log.not_read(request_id, path, arrived_at, Refusal(error), tenant=tenant)
        return self.told(request_id, key).headers()

    def identity(self, request_id: str, asked: str, served: str, policy: str) -> Identity:
        """The fields that all parts of an answer share.

        `asked` and `served`: the model's names, and `policy`: the digest of the one that decided.
        """
        return Identity(request_id, self.model_field(asked, served), int(time.time()), f"fp_{policy}")

    def model_field(self, asked: str, served: str) -> str:
        """What an answer holds as `model`."""
        return served if self.shows_served and served else asked


class Credentials(msgspec.Struct, frozen=True):
    """Who asks, by the headers of a request or of a WebSocket's handshake."""

    api_key: str | None
    tags: tuple[str, ...]
    path: str
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, request: Request) -> "Credentials":
        """Raises `HttpError` for headers that cannot be understood."""
        return cls(
            request.key,
            _tags(request.header(b"x-penstock-tags")),
            request.path.decode("latin1"),
            tuple([(name, value) for name, value in request.headers if name not in KEY_HEADERS]),
        )

    def asks(
        self,
        *,
        request_id: str,
        model: str,
        prompts: tuple[Prompt, ...],
        params: SamplingParams,
        echo: bool = False,
        truncate_prompt_tokens: int | None = None,
        n: int,
        grammar: Grammar | None = None,
        embedding: EmbeddingParams | None = None,
        written: Mapping[str, Any] = _NOTHING,
        needs_upstream: tuple[str, ...] = (),
        user: str | None,
        conversation: str = "",
        cache_key: str = "",
        streamed: bool,
        body_bytes: int,
        arrived_at: float,
    ) -> InferenceRequest:
        """The request as the service takes it."""
        return InferenceRequest(
            request_id=request_id,
            model=model,
            prompts=prompts,
            params=params,
            echo=echo,
            truncate_prompt_tokens=truncate_prompt_tokens,
            n=n,
            grammar=grammar,
            embedding=embedding,
            written=written,
            needs_upstream=needs_upstream,
            api_key=self.api_key,
            path=self.path,
            headers=self.headers,
            tags=self.tags,
            user=user,
            conversation=conversation,
            cache_key=cache_key,
            streamed=streamed,
            body_bytes=body_bytes,
            arrived_at=arrived_at,
        )


def new_request_id() -> str:
    """96 random bits."""
    return secrets.token_hex(12)


def _tags(value: bytes | None) -> tuple[str, ...]:
    if value is None:
        return ()
    tags = tuple([tag for each in value.decode("latin1").split(",") if (tag := each.strip())])
    if len(tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG_CHARACTERS for tag in tags):
        raise HttpError(
            400, "bad_header", f"x-penstock-tags: at most {_MAX_TAGS} tags of {_MAX_TAG_CHARACTERS} characters each."
        )
    return tags
