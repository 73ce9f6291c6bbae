"""What all ways to ask have in common: who asks, and the request's identity."""

import secrets
import time

import msgspec

from actors.messages import EmbeddingParams, InferenceRequest, Prompt
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.errors import HttpError
from gateway.house import House
from gateway.server.request import Request, bearer_of
from gateway.wire.answer import Identity

_MAX_TAGS = 16
_MAX_TAG_CHARACTERS = 64


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """The house and what the edge must know of the configuration."""

    house: House
    max_choices: int
    max_inputs: int
    embeds_only: bool = False
    """No engine answers: all of them make embeddings."""

    def identity(self, request_id: str, model: str, policy: str) -> Identity:
        """The fields that all parts of an answer share; `policy` is the digest of the one that decided."""
        return Identity(request_id, model, int(time.time()), f"fp_{policy}")


class Asker(msgspec.Struct, frozen=True):
    """Who asks, by the headers of a request or of a WebSocket's handshake."""

    api_key: str | None
    tags: tuple[str, ...]
    path: str
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, request: Request) -> "Asker":
        """Raises `HttpError` for headers that cannot be understood."""
        return cls(
            bearer_of(request.header(b"authorization")),
            _tags(request.header(b"x-penstock-tags")),
            request.path.decode("latin1"),
            tuple([(name, value) for name, value in request.headers if name != b"authorization"]),
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
        user: str | None,
        conversation: str = "",
        cache_key: str = "",
        streamed: bool,
        body_bytes: int,
        arrived_at: float,
    ) -> InferenceRequest:
        """The request as the house takes it."""
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
