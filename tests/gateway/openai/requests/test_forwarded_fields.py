"""What a client says is what an upstream is asked: each field goes there, is answered here, or is refused by name."""

import json
from typing import Any

import msgspec
import pytest

from actors.api.request import ParsedBody
from actors.protocol.job import UpstreamCall
from actors.upstream.request_body import build_request_body, unsupported_reason
from config.model.upstreams import UpstreamSettings
from gateway.endpoints.completions import CHAT, COMPLETION, Endpoint
from gateway.errors import BadField
from gateway.openai.requests.chat_request import ChatBody
from gateway.openai.requests.completion_request import CompletionBody
from tests.actors.upstream.network import says
from tests.actors.upstream.test_upstream_actor import CHAT as HI
from tests.actors.upstream.test_upstream_actor import FINE, TWO, outcomes, stage
from tests.actors.upstream.test_upstream_actor import HI as HI_TOKENS

PLAIN = UpstreamSettings(urls=("http://up/v1",))
VLLM = UpstreamSettings(urls=("http://up/v1",), supports=("sampling", "structured_outputs"), tokenizer="large")
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
BARE_TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True}}
LOOSE = {"type": "json_schema", "json_schema": {"name": "person", "description": "d", "schema": {"type": "object"}}}
WITH_TOOL = {"tools": [TOOL]}

AS_WRITTEN: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"top_p": 1.0},
    {"presence_penalty": 0.0},
    {"frequency_penalty": -0.5},
    {"seed": 4},
    {"stop": ["END"]},
    {"max_tokens": 7},
    {"user": "ann"},
    {"metadata": {"team": "search"}},
    {"store": True},
    {"store": False},
    {"service_tier": "flex"},
    {"safety_identifier": "s"},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "24h"},
    {"reasoning_effort": "high"},
    {"reasoning_effort": "none"},
    {"verbosity": "low"},
    {"modalities": ["text"]},
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "alloy", "format": "wav"}},
    {"prediction": {"type": "content", "content": "x"}},
    {"web_search_options": {"search_context_size": "low"}},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {"response_format": SCHEMA},
    {"response_format": LOOSE},
    {"tools": [TOOL]},
    {"tools": [BARE_TOOL]},
    {**WITH_TOOL, "tool_choice": "auto"},
    {**WITH_TOOL, "tool_choice": "none"},
    {**WITH_TOOL, "tool_choice": "required"},
    {**WITH_TOOL, "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {**WITH_TOOL, "parallel_tool_calls": True},
    {**WITH_TOOL, "parallel_tool_calls": False},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 0},
    {"logprobs": True, "top_logprobs": 3},
]
FOR_VLLM: list[dict[str, Any]] = [
    {"top_k": 7},
    {"min_p": 0.1},
    {"repetition_penalty": 1.1},
    {"min_tokens": 2},
    {"ignore_eos": True},
    {"stop_token_ids": [7]},
    {"include_stop_str_in_output": True},
    {"skip_special_tokens": False},
    {"bad_words": ["x"]},
    {"allowed_token_ids": [1, 2]},
    {"logit_bias": {"3": 1.5}},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"documents": [{"text": "x"}]},
    {"thinking_token_budget": 9},
    {"priority": 3},
    {"vllm_xargs": {"a": 1}},
    {"guided_regex": "a+"},
    {"guided_choice": ["a"]},
    {"guided_grammar": "start: /a/"},
    {"structured_outputs": {"regex": "a+"}},
]
ANSWERED_HERE = {
    "model",
    "messages",
    "prompt",
    "n",
    "best_of",
    "cache_salt",
    "stream",
    "stream_options",
    "echo",
    "max_completion_tokens",
    "guided_json",
    "penstock",
    "include_reasoning",
}
"""Or said in another way: see the other tests."""
ACCEPTED_IF_NEUTRAL = {
    "add_generation_prompt", "add_special_tokens", "chat_template", "continue_final_message", "detokenize",
    "function_call", "functions", "guided_decoding_backend", "guided_whitespace_pattern", "kv_transfer_params",
    "length_penalty", "logits_processors", "media_io_kwargs", "mm_processor_kwargs", "prompt_embeds", "request_id",
    "return_token_ids", "return_tokens_as_token_ids", "spaces_between_special_tokens", "structural_tag", "suffix",
    "use_beam_search",
}  # fmt: skip
REFUSED_THERE = {"prompt_logprobs", "truncate_prompt_tokens"}
"""By name: no upstream can be asked."""


def call(fields: dict[str, Any], endpoint: Endpoint = CHAT) -> UpstreamCall:
    given = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    if endpoint is COMPLETION:
        given = {"model": "m", "prompt": "Hi", **fields}
    asked: ParsedBody = endpoint.read(*endpoint.decoder.decode(json.dumps(given).encode()), 16)
    limit = asked.params.max_tokens or None
    return UpstreamCall(
        sequence_id=1,
        model="m",
        prompt=asked.prompts[0],
        params=asked.params,
        grammar=asked.grammar,
        limit=limit,
        written=asked.written,
    )


def sent(given: UpstreamCall, upstream: UpstreamSettings = PLAIN) -> dict[str, Any]:
    assert unsupported_reason(given, upstream) is None
    body: dict[str, Any] = json.loads(build_request_body(given, upstream).body)
    return body


def test_nothing_is_added():
    assert sent(call({})) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("fields", AS_WRITTEN, ids=str)
@pytest.mark.parametrize("upstream", [PLAIN, VLLM], ids=["plain", "vllm"])
def test_what_the_api_has_goes_there_as_it_was_written(fields, upstream):
    bare = sent(call({}), upstream)
    assert sent(call(fields), upstream) == {**bare, **fields}


def texts(*given: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in given]


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize(
    ("content", "goes"),
    [("Hi", "Hi"), (texts("Hi"), "Hi"), (texts("Sum up:", "a text"), texts("Sum up:", "a text"))],
)
def test_texts_stay_apart(role, content, goes):
    """One alone is a plain text, which more servers take."""
    turns = [{"role": role, "content": content}, {"role": "user", "content": "And?"}]
    assert sent(call({"messages": turns}))["messages"][0] == {"role": role, "content": goes}


@pytest.mark.parametrize("written", ['{"a": 1}', '{"b":1.0,"a":"\\u00fc"}', "{}"])
def test_arguments_of_earlier_calls_stay_as_they_were(written):
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": written}}
    turns = [{"role": "assistant", "tool_calls": [called]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]
    assert sent(call({"messages": turns}))["messages"][0]["tool_calls"][0]["function"]["arguments"] == written


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize("thinks", [False, True])
def test_cache_breakpoints_join_no_texts(role, thinks):
    mark = {"cache_control": {"type": "ephemeral"}}
    thought = [{"type": "thinking", "thinking": "hm"}] if thinks and role == "assistant" else []
    first, second = texts("a", "b")
    asked = call({"messages": [{"role": role, "content": [*thought, first, second | mark]}]})
    assert sent(asked)["messages"][0]["content"] == [*thought, first, second]
    marking = UpstreamSettings(urls=("http://up/v1",), supports=("cache_control",))
    expected = [*thought, first, second if thought else second | mark]
    assert sent(asked, marking)["messages"][0]["content"] == expected


@pytest.mark.parametrize("fields", FOR_VLLM, ids=str)
def test_what_vllm_has_goes_where_it_is_understood_and_is_refused_by_name_elsewhere(fields):
    [(name, value)] = fields.items()
    refused = unsupported_reason(call(fields), PLAIN) or ""
    assert name in refused
    body = sent(call(fields), VLLM)
    if name.startswith(("guided_", "structured_")):
        value = fields.get("structured_outputs", {name.removeprefix("guided_"): value})
        name = "structured_outputs"
    assert body == {**sent(call({}), VLLM), name: value}


@pytest.mark.parametrize("fields", [{"top_k": 0}, {"top_k": -1}, {"min_p": 0.0}, {"repetition_penalty": 1.0}], ids=str)
def test_switched_off_by_the_client_is_said_where_a_model_may_have_other_defaults(fields):
    [(name, value)] = fields.items()
    assert sent(call(fields), VLLM)[name] == value
    assert name not in sent(call(fields), PLAIN)


@pytest.mark.parametrize("supports", [(), ("sampling",), ("cache_salt",)])
def test_a_salt_goes_where_it_divides_the_cache_and_is_refused_elsewhere(supports):
    upstream = msgspec.structs.replace(PLAIN, supports=supports)
    own = call({"cache_salt": "mine"})
    if "cache_salt" not in supports:
        assert "cache_salt" in (unsupported_reason(own, upstream) or "")
        assert "cache_salt" not in sent(call({"cache_salt": ""}), upstream)
        return
    # What is sent is the tenant's own, so that no client can name another's.
    salted = msgspec.structs.replace(own, cache_salt=b"\x0a\xff")
    assert sent(salted, upstream)["cache_salt"] == "0aff"


def test_the_newer_name_of_the_limit():
    assert sent(call({"max_completion_tokens": 7}))["max_tokens"] == 7
    newer = UpstreamSettings(urls=("http://up/v1",), supports=("max_completion_tokens",))
    assert sent(call({"max_tokens": 7}), newer)["max_completion_tokens"] == 7


def test_json_by_vllms_old_name_is_asked_for_in_the_apis_words():
    assert sent(call({"guided_json": {"type": "object", "properties": {}}}))["response_format"]["type"] == "json_schema"


def test_padding_against_observers_is_asked_for():
    fields = {"stream": True, "stream_options": {"include_obfuscation": False}}
    assert sent(call(fields))["stream_options"] == {"include_usage": True, "include_obfuscation": False}


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETION])
def test_an_explanation_is_made_here(endpoint):
    asked = call({"penstock": {"explain": True}}, endpoint)
    assert "penstock" not in asked.written
    assert sent(asked) == sent(call({}, endpoint))


@pytest.mark.parametrize("body", [ChatBody, CompletionBody])
def test_no_field_is_forgotten(body):
    known = {name for fields in (*AS_WRITTEN, *FOR_VLLM) for name in fields}
    assert set(body.__struct_fields__) <= known | ANSWERED_HERE | ACCEPTED_IF_NEUTRAL | REFUSED_THERE


@pytest.mark.parametrize(
    "name", sorted(ACCEPTED_IF_NEUTRAL - {"spaces_between_special_tokens", "guided_decoding_backend"})
)
def test_what_nobody_can_be_asked_for_is_refused_by_name(name):
    endpoint = CHAT if name in ChatBody.__struct_fields__ else COMPLETION
    with pytest.raises(BadField) as caught:
        call({name: "something else"}, endpoint)
    assert caught.value.body.param == name


def test_a_text_completion():
    body = sent(call({"temperature": 1.0, "user": "ann"}, COMPLETION))
    assert body == {
        "model": "m",
        "prompt": "Hi",
        "max_tokens": 16,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1.0,
        "user": "ann",
    }


# --- through the service ------------------------------------------------------------------------------------


def asked_with(service, model: str, **fields):
    request = service.request(model, prompts=HI)
    return msgspec.structs.replace(request, body=msgspec.structs.replace(request.body, **fields))


async def test_an_engine_refuses_by_name_what_it_cannot_obey(autojump_clock):
    async with stage(says("a"), FINE) as (service, _):
        request = asked_with(service, "small", needs_upstream=("reasoning_effort",))
        with pytest.raises(Exception, match="reasoning_effort") as caught:
            await service.service.open(request)
        assert (caught.value.body.status, caught.value.body.param) == (400, "reasoning_effort")


async def test_an_upstream_is_asked_and_an_engine_below_it_refuses(autojump_clock):
    async with stage(says("a"), FINE) as (service, network):
        fields = {"written": {"reasoning_effort": "high"}, "needs_upstream": ("reasoning_effort",)}
        answer = await service.read(await service.service.open(asked_with(service, "cloud", **fields)))
        assert answer.text() == "a"
        assert network.asked[0].body["reasoning_effort"] == "high"
    async with stage({}, FINE) as (service, network):
        answer = await service.read(await service.service.open(asked_with(service, "cloud", **fields)))
        assert answer.refusal is not None
        assert answer.text() == ""


@pytest.mark.parametrize(
    ("extra", "options", "said"),
    [
        ("", {}, None),
        ("context = 20\n", {}, None),
        ("context = 100_000\n", {}, None),
        ("", {"max_tokens": 7}, 7),
        ("context = 20\n", {"max_tokens": 100}, 100),
        ('tokenizer = "small"\ncontext = 500\n', {}, None),
    ],
)
async def test_how_much_may_be_said_is_left_to_the_upstream(autojump_clock, extra, options, said):
    async with stage(says("a"), FINE, extra=extra) as (service, network):
        assert (await service.ask("cloud", prompts=HI, **options)).text() == "a"
        assert network.asked[0].body.get("max_tokens") == said


async def test_a_route_may_say_how_much(autojump_clock):
    text = TWO.replace(
        'use = { ladder = "cloud-first" }', 'use = { ladder = "cloud-first" }\ncaps = { output_tokens = 9 }', 1
    )
    async with stage(says("a"), text=text) as (service, network):
        assert outcomes(await service.ask("cloud", prompts=HI))[0][:2] == ("cloud", "answered")
        await service.ask("cloud", prompts=HI, max_tokens=3)
        assert [each.body["max_tokens"] for each in network.asked] == [9, 3]


async def test_what_is_reserved_is_bounded_all_the_same(autojump_clock):
    async with stage(says("a"), FINE) as (service, _):
        await service.ask("cloud", prompts=HI)
        assert service.row("r1")["reserved_tokens"] == 4096 + HI_TOKENS
