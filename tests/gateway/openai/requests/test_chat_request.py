"""What bodies are understood, and what is said of those that are not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.api.request import ChatMessage, ParsedBody
from engine.sampling.params import SamplingParams
from gateway.endpoints.completions import CHAT, COMPLETION
from gateway.errors import BadField, HttpError
from gateway.openai.requests.json_body import check_content_type

MESSAGES = [{"role": "user", "content": "a"}]


def chat(**fields: Any) -> ParsedBody:
    return raw_chat(msgspec.json.encode({"model": "m", "messages": MESSAGES, **fields}))


def raw_chat(body: bytes) -> ParsedBody:
    return CHAT.read(*CHAT.decoder.decode(body), 8)


def completion(**fields: Any) -> ParsedBody:
    body = msgspec.json.encode({"model": "m", "prompt": "a", **fields})
    return COMPLETION.read(*COMPLETION.decoder.decode(body), 8)


def test_every_field_arrives() -> None:
    asked = chat(
        frequency_penalty=-1,
        allowed_token_ids=[4, 9, 4],
        bad_words=["ugly", " no"],
        ignore_eos=True,
        include_stop_str_in_output=True,
        logit_bias={"7": -100, "12": 1.5},
        logprobs=True,
        max_completion_tokens=9,
        min_p=0.1,
        min_tokens=2,
        n=3,
        presence_penalty=2,
        prompt_logprobs=7,
        repetition_penalty=1.1,
        seed=-5,
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        stop=["x", "yy"],
        stop_token_ids=[3],
        temperature=0,
        top_k=4,
        top_logprobs=5,
        top_p=0.5,
        truncate_prompt_tokens=100,
    )
    assert asked.n == 3
    assert asked.truncate_prompt_tokens == 100
    assert asked.params == SamplingParams(
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=4,
        min_p=0.1,
        seed=-5,
        presence_penalty=2,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        logit_bias=((7, -100.0), (12, 1.5)),
        min_tokens=2,
        ignore_eos=True,
        stop=("x", "yy"),
        stop_token_ids=(3,),
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        allowed_token_ids=(4, 9),
        bad_words=("ugly", " no"),
        logprobs=5,
        prompt_logprobs=7,
    )


VLLM: dict[str, list[tuple[Any, Any]]] = {
    # Each field of vLLM's ChatCompletionRequest and CompletionRequest: (value, what becomes of it). What is not said
    # of the fields that SamplingParams has is said above.
    "add_generation_prompt": [(True, "neutral chat"), (False, "refused chat")],
    "add_special_tokens": [(False, "neutral chat"), (True, "neutral completion")],
    "allowed_token_ids": [([1], "acted")],
    "bad_words": [(["x"], "acted"), ([], "neutral")],
    "best_of": [(1, "neutral completion"), (3, "refused completion")],
    "cache_salt": [("x", "acted"), ("", "neutral")],
    "chat_template": [("x", "refused chat")],
    "chat_template_kwargs": [({}, "neutral chat"), ({"thinking": True}, "acted chat"), ({"a": 1}, "refused chat")],
    "continue_final_message": [(False, "neutral chat"), (True, "refused chat")],
    "documents": [([], "neutral chat"), ([{"a": "b"}], "refused chat")],
    "echo": [(False, "neutral"), (True, "refused chat"), (True, "acted completion")],
    "frequency_penalty": [(0.5, "acted")],
    "guided_choice": [(["a"], "acted")],
    "guided_decoding_backend": [("outlines", "neutral")],
    "guided_grammar": [("start: A", "acted")],
    "guided_json": [({"type": "object"}, "acted")],
    "guided_regex": [("a", "acted")],
    "guided_whitespace_pattern": [(" ", "refused")],
    "ignore_eos": [(True, "acted")],
    "include_reasoning": [(True, "neutral chat"), (False, "acted chat")],
    "include_stop_str_in_output": [(True, "acted")],
    "kv_transfer_params": [({"a": 1}, "refused")],
    "length_penalty": [(1.0, "neutral"), (2.0, "refused")],
    "logit_bias": [({"3": 1.0}, "acted")],
    "logits_processors": [(["x"], "refused")],
    "logprobs": [(True, "acted chat"), (2, "acted completion")],
    "max_completion_tokens": [(7, "acted chat")],
    "max_tokens": [(7, "acted")],
    "media_io_kwargs": [({}, "neutral"), ({"a": {}}, "refused")],
    "min_p": [(0.1, "acted")],
    "min_tokens": [(1, "acted")],
    "mm_processor_kwargs": [({"a": 1}, "refused chat")],
    "n": [(2, "acted")],
    "parallel_tool_calls": [(False, "neutral chat")],
    "presence_penalty": [(0.5, "acted")],
    "priority": [(0, "neutral"), (1, "refused")],
    "prompt_embeds": [("x", "refused completion")],
    "prompt_logprobs": [(1, "acted")],
    "reasoning_effort": [("high", "acted chat"), ("9", "refused chat")],
    "repetition_penalty": [(1.1, "acted")],
    "request_id": [("mine", "refused")],
    "response_format": [({"type": "json_object"}, "acted"), ({"type": "text"}, "neutral")],
    "return_token_ids": [(False, "neutral"), (True, "refused")],
    "return_tokens_as_token_ids": [(False, "neutral"), (True, "refused")],
    "seed": [(3, "acted")],
    "skip_special_tokens": [(True, "neutral"), (False, "acted")],
    "spaces_between_special_tokens": [(True, "neutral"), (False, "neutral")],
    "stop": [("x", "acted"), ([], "neutral")],
    "stop_token_ids": [([3], "acted")],
    "stream": [(False, "neutral"), (True, "neutral")],
    "structural_tag": [("x", "refused")],
    "structured_outputs": [({"regex": "a"}, "acted"), ({"structural_tag": "x"}, "refused")],
    "suffix": [("x", "refused completion")],
    "temperature": [(0.3, "acted")],
    # Switched off is not the same as not said: then the model's own value counts.
    "top_k": [(5, "acted"), (-1, "acted")],
    "top_p": [(0.5, "acted")],
    "truncate_prompt_tokens": [(9, "acted")],
    "use_beam_search": [(True, "refused")],
    "user": [("x", "neutral")],
    "thinking_token_budget": [(9, "acted chat")],
    "vllm_xargs": [({"a": 1}, "refused")],
}


@pytest.mark.parametrize(
    ("field", "value", "becomes"), [(field, *case) for field, cases in VLLM.items() for case in cases]
)
def test_every_field_of_vllm_is_acted_upon_or_neutral_or_refused_by_name(field: str, value: Any, becomes: str) -> None:
    what, _, only = becomes.partition(" ")
    for name, ask in (("chat", chat), ("completion", completion)):
        if only not in {"", name}:
            continue
        if what == "refused":
            assert refused_by_engines(partial(ask, **{field: value})).startswith(field)
            continue
        asked = ask(**{field: value})
        assert asked.needs_upstream == ()
        # What was written goes to upstreams as it is, and who asks for a stream is for us; an engine does the rest.
        for_engines = msgspec.structs.replace(asked, written={}, streamed=False, user=None)
        assert (for_engines != ask()) is (what == "acted")


def refused_by_engines(ask: Callable[[], ParsedBody]) -> str:
    """The field that is refused: by the edge, or, if an upstream may know it, by a service that asks none."""
    try:
        return ask().needs_upstream[0]
    except HttpError as refused:
        body = refused.body
    assert body.code == "unsupported_parameter"
    return body.param or ""


def test_null_is_as_good_as_absent() -> None:
    names = [name for name in CHAT.decoder.known if name not in {"model", "messages"}]
    assert chat(**dict.fromkeys(names)) == chat()
    names = [name for name in COMPLETION.decoder.known if name not in {"model", "prompt"}]
    assert completion(**dict.fromkeys(names)) == completion()
    sampled = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    assert chat().params == SamplingParams(max_tokens=0, left_out=sampled)
    assert completion().params == SamplingParams(max_tokens=16, left_out=sampled)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 1), ("temperature", 0), ("top_p", 1), ("top_k", 0), ("min_p", 0), ("repetition_penalty", 1)],
)
def test_a_value_that_the_api_would_have_is_said_if_the_client_says_it(name: str, value: float) -> None:
    assert name not in chat(**{name: value}).params.left_out
    assert name in chat(**{name: None}).params.left_out


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": [], "function_call": "auto"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "prediction": None},
        {"store": False, "metadata": {"a": "b"}, "service_tier": "auto", "user": "u", "safety_identifier": "s"},
        {"reasoning_effort": "none", "verbosity": "medium", "web_search_options": {}, "prompt_cache_key": "k"},
        {"top_k": -1, "logprobs": False, "top_logprobs": 0, "stop": [], "stop_token_ids": [], "logit_bias": {}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"use_beam_search": False, "length_penalty": 1.0, "priority": 0, "add_special_tokens": False, "echo": False},
        {"guided_decoding_backend": "xgrammar", "chat_template_kwargs": {}, "add_generation_prompt": True},
        {"spaces_between_special_tokens": True, "skip_special_tokens": True, "return_token_ids": False},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": False}},
        {"structured_outputs": {"regex": "a", "disable_fallback": True, "disable_any_whitespace": False}},
    ],
)
def test_neutral_values_are_accepted(fields: dict[str, Any]) -> None:
    assert chat(**fields).n == 1


@pytest.mark.parametrize("asked", [chat, completion])
@pytest.mark.parametrize(
    ("options", "explained"),
    [({"explain": True}, True), ({"explain": False}, False), ({"explain": None}, False), ({}, False), (None, False)],
)
def test_an_explanation_is_asked_for(asked: Callable[..., ParsedBody], options: object, explained: bool) -> None:
    assert asked(penstock=options).view.explain is explained
    assert asked().view.explain is False


SCHEMA_ASKED = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("fields", "thinking", "of_engines", "needs"),
    [
        ({}, None, None, ()),
        ({"reasoning_effort": "none"}, False, False, ()),
        ({"reasoning_effort": "low"}, None, None, ()),
        ({"reasoning_effort": "lowest"}, None, None, ("reasoning_effort",)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, False, ()),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}, True, True, ()),
        ({"chat_template_kwargs": {"thinking": False}, "reasoning_effort": "none"}, False, False, ()),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking": False}}, None, None, ("chat_template_kwargs",)),
        ({"chat_template_kwargs": {"thinking": True, "a": 1}}, None, None, ("chat_template_kwargs",)),
        ({"chat_template_kwargs": {"thinking": 1}}, None, None, ("chat_template_kwargs",)),
        (SCHEMA_ASKED, None, False, ()),
        ({**SCHEMA_ASKED, "chat_template_kwargs": {"thinking": True}}, True, False, ("chat_template_kwargs",)),
    ],
)
def test_reasoning_is_switched_on_and_off(
    fields: dict[str, Any], thinking: bool | None, of_engines: bool | None, needs: tuple[str, ...]
) -> None:
    body = chat(**fields)
    assert (body.thinking, body.engines_think, body.needs_upstream) == (thinking, of_engines, needs)


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions", "use 'tools'"),
        ({"function_call": {"name": "f"}}, "unsupported_parameter", "function_call", "use 'tools'"),
        ({"store": "yes"}, "unsupported_parameter", "store", "Remove"),
        ({"modalities": "audio"}, "unsupported_parameter", "modalities", "Remove"),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"thinking": True}},
            "invalid_value",
            "reasoning_effort",
            "contradict",
        ),
        ({"reasoning_effort": 7}, "unsupported_parameter", "reasoning_effort", "Remove"),
        ({"use_beam_search": True}, "unsupported_parameter", "use_beam_search", "Remove"),
        ({"length_penalty": 0.5}, "unsupported_parameter", "length_penalty", "Remove"),
        ({"logits_processors": ["f"]}, "unsupported_parameter", "logits_processors", "Remove"),
        ({"echo": True}, "unsupported_parameter", "echo", "Remove"),
        ({"chat_template": "{{ messages }}"}, "unsupported_parameter", "chat_template", "Remove"),
        ({"continue_final_message": True}, "unsupported_parameter", "continue_final_message", "Remove"),
        ({"guided_whitespace_pattern": " "}, "unsupported_parameter", "guided_whitespace_pattern", "Remove"),
        ({"return_token_ids": True}, "unsupported_parameter", "return_token_ids", "Remove"),
        ({"typical_p": 0.9}, "unknown_field", "typical_p", "spelling"),
        ({"max_token": 5}, "unknown_field", "max_token", "'max_tokens'"),
        ({"zzzzzz": 5}, "unknown_field", "zzzzzz", "spelling"),
        ({"temperature": "hot"}, "invalid_type", "temperature", "a number or null, got a string"),
        ({"n": 1.5}, "invalid_type", "n", "an integer"),
        ({"stream": 1}, "invalid_type", "stream", "true or false"),
        ({"messages": "a"}, "invalid_type", "messages", "a list"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content", "got an integer"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "invalid_type", "messages[0].role", "developer"),
        ({"messages": [*MESSAGES, {"role": "user"}]}, "missing_field", "messages[1].content", "missing"),
        ({"messages": [{"role": "user", "content": "a", "x": 1}]}, "unknown_field", "messages[0].x", "spelling"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "invalid_value",
            "messages[0].content[0].image_url.url",
            "https://",
        ),
        ({"messages": []}, "invalid_value", "messages", "at least one"),
        ({"temperature": 2.1}, "invalid_value", "temperature", "between 0 and 2"),
        ({"temperature": -0.1}, "invalid_value", "temperature", "between 0 and 2"),
        ({"top_p": 0}, "invalid_value", "top_p", "above 0"),
        ({"top_p": 1.01}, "invalid_value", "top_p", "above 0"),
        ({"allowed_token_ids": []}, "invalid_value", "allowed_token_ids", "1 to 1024"),
        ({"allowed_token_ids": [-1]}, "invalid_value", "allowed_token_ids", "0 or more"),
        ({"allowed_token_ids": [1], "guided_regex": "a"}, "invalid_value", "allowed_token_ids", "grammar"),
        ({"bad_words": [""]}, "invalid_value", "bad_words", "1 to 256"),
        ({"bad_words": ["a"] * 65}, "invalid_value", "bad_words", "at most 64"),
        ({"truncate_prompt_tokens": 0}, "invalid_value", "truncate_prompt_tokens", "at least 1"),
        ({"prompt_logprobs": -1}, "invalid_value", "prompt_logprobs", "between 0 and 20"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens", "'prompt_logprobs' only"),
        ({"max_tokens": 0, "min_tokens": 1, "prompt_logprobs": 1}, "invalid_value", "min_tokens", "(0)"),
        ({"n": 0}, "invalid_value", "n", "at least 1"),
        ({"n": 9}, "invalid_value", "n", "at most 8"),
        ({"stop": [""]}, "invalid_value", "stop", "empty"),
        ({"stop": ["a"] * 17}, "invalid_value", "stop", "at most 16"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens", "at least 1"),
        ({"max_completion_tokens": -1}, "invalid_value", "max_completion_tokens", "at least 1"),
        ({"max_completion_tokens": 2**31}, "invalid_value", "max_completion_tokens", "at most 2147483647"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_value", "max_tokens", "differ: give one"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs", "between 0 and 20"),
        ({"top_logprobs": 1}, "invalid_value", "top_logprobs", "needs 'logprobs'"),
        ({"logit_bias": {"a": 1}}, "invalid_value", "logit_bias", "digits"),
        ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias.1", "-100 and 100"),
        ({"seed": 2**63}, "invalid_value", "seed", "64-bit"),
        ({"presence_penalty": 3}, "invalid_value", "presence_penalty", "-2 and 2"),
        ({"frequency_penalty": -3}, "invalid_value", "frequency_penalty", "-2 and 2"),
        ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty", "above 0"),
        ({"min_p": 1.5}, "invalid_value", "min_p", "between 0 and 1"),
        ({"top_k": -2}, "invalid_value", "top_k", "switch it off"),
        ({"min_tokens": 5, "max_tokens": 4}, "invalid_value", "min_tokens", "max_tokens"),
        ({"stop_token_ids": [-1]}, "invalid_value", "stop_token_ids", "token ids"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options", "'stream': true"),
        ({"stream": True, "stream_options": {"usage": True}}, "unknown_field", "stream_options.usage", "spelling"),
        ({"penstock": {"explan": True}}, "unknown_field", "penstock.explan", "spelling"),
        ({"penstock": {"explain": 1}}, "invalid_type", "penstock.explain", "true or false"),
        ({"penstock": True}, "invalid_type", "penstock", "an object"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], code: str, param: str, words: str) -> None:
    with pytest.raises(HttpError) as refused:
        chat(**fields)
    error = refused.value.body
    assert (error.status, error.code, error.param) == (400, code, param)
    assert words in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**40]}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": ["a"] * 5, "n": 2}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"suffix": "x"}, "suffix"),
    ],
)
def test_what_is_wrong_with_a_text_completion_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(HttpError) as refused:
        completion(**fields)
    assert (refused.value.body.status, refused.value.body.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"{", "ends too early"),
        (b'{"model": "m", "messages": []} x', "trailing"),
        (b'\xef\xbb\xbf{"model": "m"}', "byte order mark"),
        ('{"model": "m"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model": "\xff"}', "not UTF-8"),
        (b'{"model": "\\ud800"}', "surrogate"),
        (b'{"model": "m", "messages": [], "temperature": NaN}', "NaN"),
        (b'{"model": "m", "messages": [], "temperature": -Infinity}', "NaN"),
        (b'{"model": "m", "messages": [], "metadata": ' + b"[" * 50_000, "nested"),
        (b"{'model': 'm'}", "keys must be strings"),
    ],
)
def test_malformed_json(body: bytes, words: str) -> None:
    with pytest.raises(HttpError, match=words) as refused:
        raw_chat(body)
    assert (refused.value.body.status, refused.value.body.code) == (400, "malformed_json")


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"null", b"5"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(HttpError, match="must be a JSON object"):
        raw_chat(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": "a", "messages": [], "model": "b"}', "model"),
        (b'{"model": "a", "messages": [{"role": "user", "role": "system", "content": "a"}]}', "role"),
        (b'{"model": "a", "messages": [], "m\\u006fdel": "b"}', "model"),
    ],
)
def test_a_field_given_twice(body: bytes, param: str) -> None:
    with pytest.raises(HttpError) as refused:
        raw_chat(body)
    assert (refused.value.body.code, refused.value.body.param) == ("duplicate_field", param)


def test_a_refusal_of_an_earlier_answer_is_read_as_its_text() -> None:
    asked = chat(messages=[{"role": "assistant", "content": None, "refusal": "I cannot."}])
    assert asked.prompts[0].messages == (ChatMessage("assistant", "I cannot."),)
    with pytest.raises(BadField) as refused:
        chat(messages=[{"role": "user", "content": "Hi", "refusal": "No."}])
    assert refused.value.body.param == "messages[0].refusal"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = chat(
        messages=[{"role": "developer", "content": parts, "name": "x"}, {"role": "assistant", "content": None}]
    )
    (prompt,) = asked.prompts
    written = {"content": parts}
    assert prompt.messages == (ChatMessage("developer", "a\nb", "x", written=written), ChatMessage("assistant", ""))


@pytest.mark.parametrize("value", [None, b"application/json", b"Application/JSON; charset=UTF-8"])
def test_content_types_that_are_read(value: bytes | None) -> None:
    check_content_type(value)


@pytest.mark.parametrize(
    "value", [b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=latin1"]
)
def test_content_types_that_are_not(value: bytes) -> None:
    with pytest.raises(HttpError) as refused:
        check_content_type(value)
    assert refused.value.body.status == 415


def must_be_400(refused: HttpError) -> None:
    assert refused.body.status == 400
    assert refused.body.message


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused_with_400(body: bytes) -> None:
    try:
        raw_chat(body)
    except HttpError as refused:
        must_be_400(refused)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(CHAT.decoder.known), _json, max_size=6))
def test_any_values_are_either_read_or_refused_with_400(fields: dict[str, Any]) -> None:
    try:
        chat(**fields)
    except HttpError as refused:
        must_be_400(refused)


def test_what_litellm_adds_to_an_answer_may_come_back() -> None:
    added = {"provider_specific_fields": {"refusal": None}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", **added}, **added}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], **added}
    result = {"role": "tool", "tool_call_id": "c", "content": "x"}
    (prompt,) = chat(messages=[*MESSAGES, answer, result]).prompts
    (plain,) = chat(
        messages=[
            *MESSAGES,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{**call, "function": {"name": "f", "arguments": "{}"}}],
            },
            result,
        ]
    ).prompts
    assert prompt == plain
