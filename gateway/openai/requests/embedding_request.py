"""`POST /v1/embeddings`: the request body with its checks, and the response body."""

import binascii
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np

from actors.api.request import EmbeddingParams, ParsedBody, Prompt, TextPrompt
from actors.api.response import Served, Usage
from engine.sampling.params import SamplingParams
from gateway.openai.json_text import encode
from gateway.openai.requests.completion_request import Tokens, prompts_of
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema
from gateway.openai.requests.sampling import TokenId

_Text = Annotated[str, field_schema(minLength=1)]
_Inputs = Annotated[_Text | list[_Text | TokenId | Tokens], field_schema(minItems=1)]
_NO_TOKENS = SamplingParams(max_tokens=0)


class EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a request for embeddings; `null` counts as absent in every field."""

    model: str
    input: _Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, field_schema(minimum=1)] = None
    prompt_name: str | None = None
    """Not OpenAI's: which of the prompts in the model's files stands before each text."""
    user: str | None = None


def read_embedding(body: EmbeddingBody, max_inputs: int) -> ParsedBody:
    """Raises `BadField`."""
    if body.dimensions is not None and body.dimensions < 1:
        raise fault("dimensions", f"must be at least 1, not {body.dimensions}.")
    return ParsedBody(
        model=body.model,
        prompts=_inputs(body, max_inputs),
        params=_NO_TOKENS,
        embedding=EmbeddingParams(body.dimensions, body.encoding_format or "float"),
        streamed=False,
        user=body.user,
    )


def _inputs(body: EmbeddingBody, max_inputs: int) -> tuple[Prompt, ...]:
    """One prompt for each input. Raises `BadField`."""
    inputs = tuple([_prompted(each, body.prompt_name) for each in prompts_of("input", body.input)])
    if len(inputs) > max_inputs:
        raise fault("input", f"holds {len(inputs)} inputs; at most {max_inputs} are allowed in one request. Split it.")
    for index, each in enumerate(inputs):
        if isinstance(each, TextPrompt) and not each.text:
            where = "input" if isinstance(body.input, str) else f"input[{index}]"
            raise fault(where, "must not be an empty string.")
    return inputs


def _prompted(prompt: Prompt, name: str | None) -> Prompt:
    """Raises `BadField`."""
    if name is None:
        return prompt
    if not isinstance(prompt, TextPrompt):
        raise fault("prompt_name", "needs texts: token ids are used as they are.")
    return TextPrompt(prompt.text, prompt_name=name)


def embedding_answer(
    model: str, embeddings: Sequence[bytes], encoding: Literal["float", "base64"], usage: Usage, served: Served
) -> bytes:
    """The response body. `embeddings` are float32, little-endian."""
    if encoding == "base64":
        values = [b'"%b"' % binascii.b2a_base64(each, newline=False) for each in embeddings]
    else:
        values = [encode(np.frombuffer(each, "<f4").tolist()) for each in embeddings]
    data = b",".join([b'{"object":"embedding","index":%d,"embedding":%b}' % each for each in enumerate(values)])
    return b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d},"penstock":%b}' % (
        data,
        encode(model),
        usage.prompt_tokens,
        usage.prompt_tokens,
        encode(served),
    )
