"""Builds the HTTP request body for an OpenAI-compatible server from a call. Sans-IO.

Fields that a server may not support are sent only if the upstream `supports` them; otherwise the call is refused for
this upstream, never changed.
"""

import mimetypes
import posixpath
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actors.api.content import AUDIO_FORMATS, ContentPart, MediaPart, TextPart
from actors.api.request import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from actors.protocol.job import UpstreamCall
from config.model.upstreams import TAKING, UpstreamSettings
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import Tool, ToolSet

_encode = msgspec.json.Encoder().encode
_NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_SET_TOKENIZER = "let the operator set the upstream's `tokenizer`"
_TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
AS_WRITTEN = frozenset({
    "audio",
    "metadata",
    "modalities",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
    "web_search_options",
})  # fmt: skip
"""OpenAI's fields that engines here do not use, forwarded unchanged."""
SAMPLING_FIELDS = {
    "chat_template_kwargs": {},
    "documents": [],
    "priority": 0,
    "thinking_token_budget": None,
    "vllm_xargs": {},
}
"""vLLM's fields that engines here do not use, with their neutral values."""
EXTRAS = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "min_tokens": 0,
    "ignore_eos": False,
    "stop_token_ids": (),
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "allowed_token_ids": (),
    "bad_words": (),
}
"""Extensions of the OpenAI API in vLLM and SGLang, with their neutral values."""
_NEUTRAL_EXTRAS = tuple(EXTRAS.values())
_values_of_neutral = attrgetter(*_NEUTRAL)
_SAMPLING = frozenset({*SAMPLING_FIELDS, *EXTRAS, "include_reasoning"})
_values_of_extras = attrgetter(*EXTRAS)


class UpstreamRequestBody(msgspec.Struct, frozen=True):
    """Path below the upstream's address, and JSON body."""

    path: str
    body: bytes
    streamed: bool = True


def unsupported_reason(call: UpstreamCall, upstream: UpstreamSettings) -> str | None:
    """Why this upstream cannot take the call, and what to do, without a full stop; None: it can."""
    if isinstance(call.prompt, TokenPrompt) and upstream.tokenizer is None:
        return f"the prompt is token ids. Send text, or {_SET_TOKENIZER}"
    if call.params.logit_bias and upstream.tokenizer is None:
        return f"logit_bias names token ids. Leave it out, or {_SET_TOKENIZER}"
    if call.params.prompt_logprobs is not None or call.params.prompt_only:
        return "log-probabilities of the prompt (`prompt_logprobs`, or `echo` with `logprobs`) need a local engine"
    if call.params.allowed_token_ids and upstream.tokenizer is None:
        return f"allowed_token_ids names token ids. Leave it out, or {_SET_TOKENIZER}"
    if "sampling" not in upstream.supports:
        written = {
            name for name, value in call.written.items() if name in SAMPLING_FIELDS and value != SAMPLING_FIELDS[name]
        }
        if extras := sorted(written.union(_extras(call.params))):
            return _not_openai(extras, "sampling")
    unknown = [name for name in call.extra if name not in upstream.extra_request_fields]
    if unknown:
        them = "it" if len(unknown) == 1 else "them"
        return (
            f"{_are(unknown)} not known to the upstream. "
            f"Leave {them} out, or let the operator add {them} to its `extra_request_fields`"
        )
    if call.written.get("cache_salt") and "cache_salt" not in upstream.supports:
        return _not_openai(["cache_salt"], "cache_salt")
    media = call.prompt.media if isinstance(call.prompt, ChatPrompt) else ()
    if (untaken := next((part for part in media if part.medium not in upstream.takes), None)) is not None:
        return f"{untaken.where} is not text. Leave it out, or {_add_support(TAKING[untaken.medium])}"
    grammar = call.grammar
    plain = grammar is None or (grammar.kind == "json_schema" and isinstance(call.prompt, ChatPrompt))
    if grammar is not None and not plain and "structured_outputs" not in upstream.supports:
        return _not_openai([grammar.param], "structured_outputs")
    if call.begun and isinstance(call.prompt, ChatPrompt) and "continue" not in upstream.supports:
        return f"the answer has begun, and the upstream cannot continue it. To change this, {_add_support('continue')}"
    return None


def _add_support(name: str) -> str:
    return f'let the operator add "{name}" to the upstream\'s `supports`'


def _not_openai(names: Sequence[str], support: str) -> str:
    them = "it" if len(names) == 1 else "them"
    return f"{_are(names)} not part of the OpenAI API. Leave {them} out, or {_add_support(support)}"


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def build_request_body(call: UpstreamCall, upstream: UpstreamSettings) -> UpstreamRequestBody:
    """The request body; `unsupported_reason` must have returned None."""
    params, written = call.params, call.written
    chat = isinstance(call.prompt, ChatPrompt)
    fields: dict[str, Any] = {"model": call.model, "stream": call.streamed}
    if call.streamed:
        fields["stream_options"] = _stream_options(written)
    # What the client left out is for the upstream to choose: its model may have other defaults, or accept one value
    # only.
    for (name, neutral), value in zip(_NEUTRAL.items(), _values_of_neutral(params), strict=True):
        if value != neutral or name in written:
            fields[name] = value
    if params.seed is not None:
        fields["seed"] = params.seed
    if params.stop:
        fields["stop"] = list(params.stop)
    if params.logit_bias:
        fields["logit_bias"] = {str(token_id): bias for token_id, bias in params.logit_bias}
    fields |= _extras(params)
    if not AS_WRITTEN.isdisjoint(written):
        fields |= {name: value for name, value in written.items() if name in AS_WRITTEN}
    if not _SAMPLING.isdisjoint(written) and "sampling" in upstream.supports:
        fields |= {name: value for name, value in written.items() if name in _SAMPLING}
    for name in call.extra:
        fields[name] = written[name]
    if call.cache_salt:
        fields["cache_salt"] = call.cache_salt.hex()
    if chat and "response_format" in written:
        fields["response_format"] = written["response_format"]
    elif call.grammar is not None:
        fields |= _bound(call.grammar, chat=chat)
    if call.limit is not None:
        newer = chat and "max_completion_tokens" in upstream.supports
        fields["max_completion_tokens" if newer else "max_tokens"] = call.limit
    match call.prompt:
        case ChatPrompt(messages, tools):
            path = "/chat/completions"
            breakpoints = "cache_control" in upstream.supports
            fields["messages"] = [_turn(message, breakpoints=breakpoints) for message in messages]
            fields |= {name: written[name] for name in _TOOL_FIELDS if name in written}
            if tools is not None and "tools" not in written:
                fields |= _tools(tools)
            if params.logprobs is not None:
                fields["logprobs"] = True
                if params.logprobs or "top_logprobs" in written:
                    fields["top_logprobs"] = params.logprobs
            if call.begun:
                fields["messages"].append({"role": "assistant", "content": call.begun})
                fields["add_generation_prompt"] = False
                fields["continue_final_message"] = True
        case TextPrompt(text):
            path = "/completions"
            _completion(fields, text + call.begun, params)
        case TokenPrompt(token_ids):
            path = "/completions"
            _completion(fields, list(token_ids), params)
    return UpstreamRequestBody(path, _encode(fields), call.streamed)


def _stream_options(written: Mapping[str, Any]) -> dict[str, Any]:
    """Always with `include_usage`, which billing needs."""
    given = written.get("stream_options") or {}
    padded = given.get("include_obfuscation")
    return {"include_usage": True} | ({"include_obfuscation": padded} if padded is not None else {})


def _turn(message: ChatMessage, *, breakpoints: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["content"] = message.content or None
        fields["tool_calls"] = [
            {
                "id": tool_call.id,
                "type": "function",
                "function": {
                    "name": tool_call.name,
                    "arguments": tool_call.text or _encode(tool_call.arguments).decode(),
                },
                **({"extra_content": tool_call.extra} if tool_call.extra is not None else {}),
            }
            for tool_call in message.tool_calls
        ]
    fields |= message.written
    if message.parts and (breakpoints or any(isinstance(part, MediaPart) for part in message.parts)):
        # A written content may have reasoning among its parts, which these have not.
        written = message.written.get("content", message.parts)
        if len(written) == len(message.parts):
            fields["content"] = [_part(part, breakpoints=breakpoints) for part in message.parts]
    return fields


def _part(part: ContentPart, *, breakpoints: bool) -> dict[str, Any]:
    """One part of a content, in the form of the chat API."""
    match part:
        case TextPart(text):
            written: dict[str, Any] = {"type": "text", "text": text}
        case MediaPart(medium="image"):
            detail = {} if part.detail is None else {"detail": part.detail}
            written = {"type": "image_url", "image_url": {"url": _address(part), **detail}}
        case MediaPart(medium="audio"):
            audio = {"data": part.data, "format": AUDIO_FORMATS[part.media_type]}
            written = {"type": "input_audio", "input_audio": audio}
        case MediaPart():
            written = {"type": "file", "file": {"filename": part.name or _file_name(part), "file_data": _address(part)}}
    if breakpoints and part.cache_control is not None:
        written["cache_control"] = part.cache_control
    return written


def _address(part: MediaPart) -> str:
    return part.url or f"data:{part.media_type};base64,{part.data}"


def _file_name(part: MediaPart) -> str:
    """Servers know by it what a file is."""
    if part.url:
        return posixpath.basename(urlsplit(part.url).path) or "document"
    extension = mimetypes.guess_extension(part.media_type) or ""
    return f"document{extension}"


def _tools(tools: ToolSet) -> dict[str, Any]:
    """For requests that did not contain the fields in the API's form."""
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in tools.tools]}
    if tools.only is not None:
        fields["tool_choice"] = {"type": "function", "function": {"name": tools.only}}
    elif tools.choice != "auto":
        fields["tool_choice"] = tools.choice
    if not tools.parallel:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    if not tool.strict:
        return tool.definition
    return {**tool.definition, "function": {**tool.definition["function"], "strict": True}}


def _bound(grammar: Grammar, *, chat: bool) -> dict[str, Any]:
    """The output constraint in the API's form if it has one, else in vLLM's."""
    if grammar.kind != "json_schema" or not chat:
        name = "json" if grammar.kind == "json_schema" else grammar.kind
        value = grammar.source if grammar.kind in {"regex", "grammar"} else msgspec.json.decode(grammar.source)
        return {"structured_outputs": {name: value}}
    schema = msgspec.json.decode(grammar.source)
    if schema == {"type": "object"}:
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "schema": schema, "strict": not grammar.lenient}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _completion(fields: dict[str, Any], prompt: str | list[int], params: SamplingParams) -> None:
    fields["prompt"] = prompt
    if params.logprobs is not None:
        fields["logprobs"] = params.logprobs


def _extras(params: SamplingParams) -> Mapping[str, Any]:
    """Extension parameters that differ from their neutral values."""
    values = _values_of_extras(params)
    if values == _NEUTRAL_EXTRAS:
        return {}
    return {name: value for name, value in zip(EXTRAS, values, strict=True) if value != EXTRAS[name]}
