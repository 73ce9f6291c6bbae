"""`POST /tokenize` and `POST /detokenize`: the bodies, checked, and the answers."""

from collections.abc import Mapping

import msgspec

from actors.api.request import ParsedBody, Prompt, TextPrompt, TokenizeParams, TokenPrompt
from actors.request.tokenization import Tokenized
from engine.sampling.params import SamplingParams
from gateway.errors import BadField
from gateway.openai.json_text import encode
from gateway.openai.requests.chat_request import ChatBody, MessageBody, read_chat
from gateway.openai.requests.completion_request import prompts_of
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import NOTHING, Neutral, any_of, field_schemas
from gateway.openai.requests.sampling import TokenId
from gateway.openai.requests.tools_request import ToolBody
from policies.errors import unsupported

_NEUTRAL: Mapping[str, Neutral] = {
    "chat_template": NOTHING,
    "chat_template_kwargs": any_of({}),
    "continue_final_message": any_of(False),
    "mm_processor_kwargs": any_of({}),
}
"""Fields that this server does not have, and which of their values have no effect."""
_CHAT_ONLY = ("add_generation_prompt", "tools")
_NO_TOKENS = SamplingParams(max_tokens=0)


class TokenizeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `/tokenize`; `null` counts as absent in every field."""

    forwarded = field_schemas(_NEUTRAL)
    model: str
    prompt: str | None = None
    messages: list[MessageBody] | None = None
    tools: list[ToolBody] | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `/detokenize`."""

    model: str
    tokens: list[TokenId]


def read_tokenize(body: TokenizeBody, given: GivenFields) -> ParsedBody:
    """Raises `BadField`."""
    for name, accepts in _NEUTRAL.items():
        value = given.get(name)
        if value is not None and not accepts(value):
            raise BadField(name, unsupported(name), "unsupported_parameter")
    if (body.prompt is None) == (body.messages is None):
        raise fault("prompt", "or 'messages' must be given: one of them.")
    is_chat = body.messages is not None
    for name in _CHAT_ONLY:
        if not is_chat and getattr(body, name) is not None:
            raise fault(name, "needs 'messages'.")
    # A chat template writes its own special tokens.
    special = not is_chat if body.add_special_tokens is None else body.add_special_tokens
    params = TokenizeParams(special, body.add_generation_prompt is not False, bool(body.return_token_strs))
    return ParsedBody(model=body.model, prompts=(_prompt(body),), params=_NO_TOKENS, tokenize=params, streamed=False)


def read_detokenize(body: DetokenizeBody) -> ParsedBody:
    """Raises `BadField`."""
    prompts: tuple[Prompt, ...] = (TokenPrompt(()),) if not body.tokens else prompts_of("tokens", list(body.tokens))
    return ParsedBody(model=body.model, prompts=prompts, params=_NO_TOKENS, tokenize=TokenizeParams(), streamed=False)


def _prompt(body: TokenizeBody) -> Prompt:
    if body.messages is None:
        return TextPrompt(body.prompt or "")
    chat = ChatBody(model=body.model, messages=body.messages, tools=body.tools)
    return read_chat(chat, {}, 1).prompts[0]


def tokenize_answer(made: Tokenized) -> bytes:
    """The response body of `/tokenize`."""
    return encode(
        {
            "count": len(made.tokens),
            "max_model_len": made.max_model_len,
            "tokens": made.tokens,
            "token_strs": made.spelled,
        }
    )


def detokenize_answer(text: str) -> bytes:
    """The response body of `/detokenize`."""
    return encode({"prompt": text})
