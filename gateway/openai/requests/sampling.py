"""The sampling fields that chat and text completions share, their ranges, and the conversion to `SamplingParams`."""

import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import msgspec

from actors.api.request import ParsedBody, Prompt, View
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.forwarded_fields import extra_fields, written
from gateway.openai.requests.grammar_request import GrammarBody, answer_grammar
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import Schema, field_schema

_CONVERSATION = ("conversation_id", "conversation", "thread_id", "session_id", "chat_id")
"""Keys of `metadata` that clients use for it; the first that is there counts."""
_MAX_STOPS = 16
_MAX_STOP_CHARACTERS = 256
_MAX_STOP_TOKENS = 64
_MAX_LOGPROBS = 20
_MAX_BIASES = 1024
_MAX_ALLOWED = 1024
_MAX_BAD_WORDS = 64
_TOKEN_ID_DIGITS = 7


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: every chunk contains the usage so far."""
    include_obfuscation: bool | None = None
    """Accepted without effect: no padding against traffic analysis is made, and no client depends on it."""


class PenstockOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`penstock`: what the answer's field of this name is to contain beside the usual."""

    explain: bool | None = None


_MODEL_CHOOSES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Fields for which the model's files may have a default."""
_AS_GIVEN = (
    *("temperature", "top_p", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("min_tokens", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens"),
)
"""Fields that are taken over, with the same defaults."""
_RANGES = {"temperature": (0, 2), "min_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
_MAX_BIAS = 100
_MAX_REPETITION_PENALTY = 100
_MAX_INT = 2**31
_MAX_SEED = 2**63


_taken_over, _chosen = attrgetter(*_AS_GIVEN), attrgetter(*_MODEL_CHOOSES)


def _ranged(name: str) -> msgspec.Meta:
    low, high = _RANGES[name]
    return field_schema(minimum=low, maximum=high)


TokenId = Annotated[int, field_schema(minimum=0, exclusiveMaximum=_MAX_INT)]
TokenLimit = Annotated[int | None, field_schema(minimum=0, exclusiveMaximum=_MAX_INT)]
Alternatives = Annotated[int | None, field_schema(minimum=0, maximum=_MAX_LOGPROBS)]
"""How many of the likeliest tokens are shown."""
ShortText = Annotated[str, field_schema(minLength=1, maxLength=_MAX_STOP_CHARACTERS)]
Stops = Annotated[ShortText | list[ShortText] | None, field_schema(maxItems=_MAX_STOPS)]
StopList = Annotated[list[ShortText] | None, field_schema(maxItems=_MAX_STOPS)]
_Digits = Annotated[str, field_schema(pattern=f"^[0-9]{{1,{_TOKEN_ID_DIGITS}}}$")]
_Bias = Annotated[float, field_schema(minimum=-_MAX_BIAS, maximum=_MAX_BIAS)]


class SamplingBody(GrammarBody, forbid_unknown_fields=True, kw_only=True):
    """Fields of both kinds of request; `null` counts as absent in every field."""

    forwarded: ClassVar[Mapping[str, Schema]]
    """Fields that are not used here, and what may be in them; see `BodyDecoder`."""
    model: str
    allowed_token_ids: Annotated[list[TokenId] | None, field_schema(minItems=1, maxItems=_MAX_ALLOWED)] = None
    bad_words: Annotated[list[ShortText] | None, field_schema(maxItems=_MAX_BAD_WORDS)] = None
    cache_salt: str | None = None
    echo: bool | None = None
    frequency_penalty: Annotated[float | None, _ranged("frequency_penalty")] = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    logit_bias: Annotated[dict[_Digits, _Bias] | None, field_schema(maxProperties=_MAX_BIASES)] = None
    max_tokens: TokenLimit = None
    min_p: Annotated[float | None, _ranged("min_p")] = None
    min_tokens: TokenLimit = None
    n: Annotated[int | None, field_schema(minimum=1)] = None
    presence_penalty: Annotated[float | None, _ranged("presence_penalty")] = None
    prompt_logprobs: Alternatives = None
    repetition_penalty: Annotated[float | None, field_schema(exclusiveMinimum=0, maximum=_MAX_REPETITION_PENALTY)] = (
        None
    )
    seed: Annotated[int | None, field_schema(minimum=-_MAX_SEED, exclusiveMaximum=_MAX_SEED)] = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    """Accepted without effect: the supported tokenizers add none."""
    stop: Stops = None
    stop_token_ids: Annotated[list[TokenId] | None, field_schema(maxItems=_MAX_STOP_TOKENS)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float | None, _ranged("temperature")] = None
    top_k: Annotated[int | None, field_schema(minimum=-1)] = None
    top_p: Annotated[float | None, field_schema(exclusiveMinimum=0, maximum=1)] = None
    truncate_prompt_tokens: Annotated[int | None, field_schema(minimum=1, exclusiveMaximum=_MAX_INT)] = None
    user: str | None = None
    metadata: Any = None
    prompt_cache_key: Any = None
    safety_identifier: Any = None


def sampling_params(
    body: SamplingBody, *, max_tokens: int | None, default_max_tokens: int, view: View, limit: str = "max_tokens"
) -> SamplingParams:
    """Check all ranges and fill in defaults. `max_tokens` in the result is 0 if the service is to choose it.

    If the client sets it to 0, the service counts one token, and `prompt_only` says that it is not sampled. `limit`:
    the field that it was in.
    """
    prompt_only = max_tokens == 0 and (view.echo or view.prompt_logprobs is not None)
    for name, (low, high) in _RANGES.items():
        value = getattr(body, name)
        if value is not None and not low <= value <= high:
            raise fault(name, f"must be between {low} and {high}, not {value:g}.")
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise fault("top_p", f"must be above 0 and at most 1, not {body.top_p:g}.")
    if body.repetition_penalty is not None and not 0 < body.repetition_penalty <= _MAX_REPETITION_PENALTY:
        raise fault("repetition_penalty", f"must be above 0 and at most {_MAX_REPETITION_PENALTY}; 1 switches it off.")
    if body.top_k is not None and body.top_k < -1:
        raise fault("top_k", "must be at least 1, or 0 or -1 to switch it off.")
    if body.seed is not None and not -_MAX_SEED <= body.seed < _MAX_SEED:
        raise fault("seed", "must be a 64-bit integer.")
    if max_tokens is not None and not (1 <= max_tokens < _MAX_INT or prompt_only):
        also = "; 0 is for 'echo' and 'prompt_logprobs' only" if max_tokens == 0 else ""
        bound = "at least 1" if max_tokens < 1 else f"at most {_MAX_INT - 1}"
        raise fault(limit, f"must be {bound}, not {max_tokens}{also}.")
    if body.min_tokens is not None and not 0 <= body.min_tokens < _MAX_INT:
        raise fault("min_tokens", "must be 0 or more.")
    if body.min_tokens is not None and max_tokens is not None and body.min_tokens > max_tokens:
        raise fault("min_tokens", f"({body.min_tokens}) must not be above '{limit}' ({max_tokens}).")
    if body.stream_options is not None and not body.stream:
        raise fault("stream_options", "is allowed only with 'stream': true.")
    if prompt_only:
        max_tokens = 1
    as_given = {name: value for name, value in zip(_AS_GIVEN, _taken_over(body), strict=True) if value is not None}
    return SamplingParams(
        **as_given,
        max_tokens=max_tokens if max_tokens is not None else default_max_tokens,
        top_k=max(body.top_k or 0, 0),
        logit_bias=_biases(body.logit_bias) if body.logit_bias else (),
        stop=stops_of("stop", body.stop) if body.stop is not None else (),
        stop_token_ids=_stop_tokens(body.stop_token_ids) if body.stop_token_ids else (),
        allowed_token_ids=_allowed(body) if body.allowed_token_ids is not None else (),
        bad_words=_bad_words(body.bad_words) if body.bad_words else (),
        logprobs=view.logprobs,
        prompt_logprobs=view.prompt_tops,
        prompt_only=prompt_only,
        left_out=tuple([name for name, value in zip(_MODEL_CHOOSES, _chosen(body), strict=True) if value is None]),
    )


def parsed_body(  # noqa: PLR0917  (what the two kinds of body have been read into)
    body: SamplingBody,
    given: GivenFields,
    needs_upstream: tuple[str, ...],
    prompts: tuple[Prompt, ...],
    params: SamplingParams,
    n: int,
    view: View,
    grammar: Grammar | None,
) -> ParsedBody:
    """The checked parts, with the fields that both kinds of body share. Raises `BadField`."""
    extra = extra_fields(given, body)
    kept = body.truncate_prompt_tokens
    if kept is not None and not 1 <= kept < _MAX_INT:
        raise fault("truncate_prompt_tokens", f"must be at least 1, not {kept}.")
    metadata = body.metadata
    return ParsedBody(
        model=body.model,
        prompts=prompts,
        params=params,
        n=n,
        grammar=grammar,
        truncate_prompt_tokens=kept,
        streamed=bool(body.stream),
        view=view,
        # Newer clients send `safety_identifier` instead of `user`.
        user=body.user or body.safety_identifier,
        conversation=next((metadata[key] for key in _CONVERSATION if metadata.get(key)), "") if metadata else "",
        cache_salt=body.cache_salt or "",
        cache_key=body.prompt_cache_key or "",
        written=written(given),
        needs_upstream=(*needs_upstream, *extra),
        extra=extra,
    )


def check_logprobs(name: str, value: int | None) -> int | None:
    """A number of alternatives. Raises `BadField` if out of range."""
    if value is not None and not 0 <= value <= _MAX_LOGPROBS:
        raise fault(name, f"must be between 0 and {_MAX_LOGPROBS}, not {value}.")
    return value


def explains(options: PenstockOptions | None) -> bool:
    """Whether the answer is to be explained."""
    return options is not None and bool(options.explain)


def check_choices(n: int | None, prompts: int, max_choices: int) -> int:
    """`n`, or 1. Raises `BadField` if `n` times the number of prompts is out of range."""
    n = 1 if n is None else n
    if n < 1:
        raise fault("n", f"must be at least 1, not {n}.")
    if n * prompts > max_choices:
        what = "'n'" if prompts == 1 else "'n' times the number of prompts"
        raise BadField("n", f"{what} must be at most {max_choices}, not {n * prompts}.")
    return n


def stops_of(field: str, stop: str | list[str]) -> tuple[str, ...]:
    """The stop strings in `field`. Raises `BadField`."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > _MAX_STOPS:
        raise fault(field, f"must hold at most {_MAX_STOPS} strings, not {len(stops)}.")
    for each in stops:
        if not each:
            raise fault(field, "must not hold an empty string.")
        if len(each) > _MAX_STOP_CHARACTERS:
            raise BadField(field, f"A string of '{field}' must have at most {_MAX_STOP_CHARACTERS} characters.")
    return stops


def _stop_tokens(ids: list[int]) -> tuple[int, ...]:
    if len(ids) > _MAX_STOP_TOKENS or not all(0 <= each < _MAX_INT for each in ids):
        raise fault("stop_token_ids", f"must hold at most {_MAX_STOP_TOKENS} token ids, each 0 or more.")
    return tuple(ids)


def _allowed(body: SamplingBody) -> tuple[int, ...]:
    ids, where = body.allowed_token_ids or [], "allowed_token_ids"
    if not 1 <= len(ids) <= _MAX_ALLOWED or not all(0 <= each < _MAX_INT for each in ids):
        raise fault(where, f"must hold 1 to {_MAX_ALLOWED} token ids, each 0 or more.")
    if answer_grammar(body) is not None:
        raise fault(where, "cannot be combined with a grammar for the answer: give one of them.")
    return tuple(dict.fromkeys(ids))


def _bad_words(words: list[str]) -> tuple[str, ...]:
    if len(words) > _MAX_BAD_WORDS or not all(0 < len(each) <= _MAX_STOP_CHARACTERS for each in words):
        raise fault("bad_words", f"must hold at most {_MAX_BAD_WORDS} texts of 1 to {_MAX_STOP_CHARACTERS} characters.")
    return tuple(words)


def _biases(biases: dict[str, float]) -> tuple[tuple[int, float], ...]:
    if len(biases) > _MAX_BIASES:
        raise fault("logit_bias", f"must hold at most {_MAX_BIASES} entries, not {len(biases)}.")
    pairs = []
    for key, bias in biases.items():
        if not (key.isascii() and key.isdigit() and len(key) <= _TOKEN_ID_DIGITS):
            raise BadField("logit_bias", "The keys of 'logit_bias' must be token ids, written as strings of digits.")
        if math.isnan(bias) or not -_MAX_BIAS <= bias <= _MAX_BIAS:
            what = f"must be between -{_MAX_BIAS} and {_MAX_BIAS}, not {bias:g}."
            raise BadField(f"logit_bias.{key}", f"A value of 'logit_bias' {what}")
        pairs.append((int(key), bias))
    return tuple(pairs)
