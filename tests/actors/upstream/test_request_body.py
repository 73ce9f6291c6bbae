"""The request body, and what is refused rather than changed."""

import json

import pytest

from actors.api.content import MediaPart, TextPart
from actors.api.request import CallTurn, ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from actors.protocol.job import UpstreamCall
from actors.upstream.request_body import build_request_body, unsupported_reason
from config.model.upstreams import UpstreamSettings
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import Tool, ToolSet

CHAT = ChatPrompt((ChatMessage("system", "Be brief."), ChatMessage("user", "Hi", name="ann")))
PLAIN = UpstreamSettings(urls=("http://up/v1",))
VLLM = UpstreamSettings(urls=("http://up/v1",), supports=("sampling", "continue"), tokenizer="large")


def call(prompt=CHAT, begun="", grammar=None, **params) -> UpstreamCall:
    return UpstreamCall(
        sequence_id=1,
        model="llama",
        prompt=prompt,
        params=SamplingParams(**{"max_tokens": 9, **params}),
        limit=9,
        begun=begun,
        grammar=grammar,
    )


def sent(given: UpstreamCall, upstream: UpstreamSettings = PLAIN) -> tuple[str, dict]:
    assert unsupported_reason(given, upstream) is None
    asked = build_request_body(given, upstream)
    return asked.path, json.loads(asked.body)


def test_chat():
    path, body = sent(call(seed=4, stop=("END",), logprobs=2, presence_penalty=0.5))
    assert path == "/chat/completions"
    assert body == {
        "model": "llama",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "ann"}],
        "max_tokens": 9,
        "seed": 4,
        "stop": ["END"],
        "presence_penalty": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_text():
    path, body = sent(call(TextPrompt("Once"), begun=" upon", logprobs=3))
    assert (path, body["prompt"], body["logprobs"]) == ("/completions", "Once upon", 3)
    assert "messages" not in body
    assert "top_logprobs" not in body


def test_an_answer_that_has_begun_is_gone_on_with():
    _, body = sent(call(begun="Hello"), VLLM)
    assert body["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_parameters_beyond_the_api():
    _, body = sent(call(top_k=5, min_p=0.1, stop_token_ids=(7,)), VLLM)
    assert (body["top_k"], body["min_p"], body["stop_token_ids"]) == (5, 0.1, [7])
    assert "repetition_penalty" not in body


ADD = Tool("add", {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}, {}, strict=True)


def test_tools_and_the_turns_that_used_them():
    turns = (
        ChatMessage("user", "1 + 1?"),
        ChatMessage("assistant", "", tool_calls=(CallTurn("c1", "add", {"a": 1, "b": 1}),)),
        ChatMessage("tool", "2", tool_call_id="c1"),
    )
    _, body = sent(call(ChatPrompt(turns, ToolSet((ADD,), parallel=False))))
    made = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":1}'}}
    assert body["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    function = {"name": "add", "parameters": {"type": "object"}, "strict": True}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert ("tool_choice" in body, body["parallel_tool_calls"]) == (False, False)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        (ToolSet((ADD,), "required"), "required"),
        (ToolSet((ADD,), "required", only="add"), {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_a_call_that_must_be_made(tools, choice):
    assert sent(call(ChatPrompt(CHAT.messages, tools)))[1]["tool_choice"] == choice


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        (Grammar("json_schema", '{"type":"object"}'), {"type": "json_object"}),
        (
            Grammar("json_schema", json.dumps(SCHEMA)),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
        ),
        (
            Grammar("json_schema", json.dumps(SCHEMA), lenient=True),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False}},
        ),
    ],
)
def test_json(grammar, expected):
    assert sent(call(grammar=grammar))[1]["response_format"] == expected


@pytest.mark.parametrize(
    ("prompt", "grammar", "expected"),
    [
        (CHAT, Grammar("regex", "[ab]+", param="guided_regex"), {"regex": "[ab]+"}),
        (CHAT, Grammar("choice", '["a","b"]'), {"choice": ["a", "b"]}),
        (CHAT, Grammar("grammar", "start: /a/"), {"grammar": "start: /a/"}),
        (TextPrompt("x"), Grammar("json_schema", json.dumps(SCHEMA)), {"json": SCHEMA}),
    ],
)
def test_other_forms_need_a_server_that_knows_them(prompt, grammar, expected):
    given = call(prompt, grammar=grammar)
    assert grammar.param in (unsupported_reason(given, PLAIN) or "")
    upstream = UpstreamSettings(urls=("http://up",), supports=("structured_outputs",))
    assert sent(given, upstream)[1]["structured_outputs"] == expected


def test_the_newer_name_of_max_tokens():
    upstream = UpstreamSettings(urls=("http://up",), supports=("max_completion_tokens",))
    _, body = sent(call(), upstream)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (9, False)


def test_token_ids_where_the_tokenizer_is_shared():
    _, body = sent(call(TokenPrompt((1, 2)), logit_bias=((3, 1.5),)), VLLM)
    assert (body["prompt"], body["logit_bias"]) == ([1, 2], {"3": 1.5})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (call(TokenPrompt((1, 2))), "tokenizer"),
        (call(logit_bias=((3, 1.5),)), "logit_bias"),
        (call(top_k=5), "top_k"),
        (call(ignore_eos=True, min_tokens=3), "ignore_eos, min_tokens"),
        (call(begun="Hello"), "continue"),
    ],
)
def test_what_cannot_be_requested(given, word):
    assert word in (unsupported_reason(given, PLAIN) or "")
    assert unsupported_reason(given, VLLM) is None


def test_the_reason_names_the_way_out():
    one, two = (unsupported_reason(call(**fields), PLAIN) for fields in ({"top_k": 5}, {"top_k": 5, "min_p": 0.1}))
    way_out = 'let the operator add "sampling" to the upstream\'s `supports`'
    assert one == f"top_k is not part of the OpenAI API. Leave it out, or {way_out}"
    assert two == f"min_p, top_k are not part of the OpenAI API. Leave them out, or {way_out}"


def media(medium: str, **more) -> MediaPart:
    return MediaPart(medium=medium, where=f"messages[0].content[{medium}]", digest=b"d", **more)


SHOWN = ChatPrompt(
    (
        ChatMessage(
            "user",
            "Look:",
            parts=(
                TextPart("Look:", {"type": "ephemeral"}),
                media("image", data="aW1n", media_type="image/png", detail="low"),
                media("image", url="https://a.example/x.png", cache_control={"type": "ephemeral"}),
                media("audio", data="c25k", media_type="audio/mpeg"),
                media("file", data="cGRm", media_type="application/pdf", name="a.pdf"),
                media("file", data="cGRm", media_type="application/pdf"),
                media("file", url="https://a.example/b/c.pdf?sig=1"),
            ),
        ),
    )
)


@pytest.mark.parametrize("marked", [True, False])
def test_images_sounds_and_files(marked):
    supports = ("vision", "audio", "files", *(("cache_control",) if marked else ()))
    _, body = sent(call(SHOWN), UpstreamSettings(urls=("http://up/v1",), supports=supports))
    mark = {"cache_control": {"type": "ephemeral"}} if marked else {}
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Look:", **mark},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}, **mark},
        {"type": "input_audio", "input_audio": {"data": "c25k", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
        {"type": "file", "file": {"filename": "c.pdf", "file_data": "https://a.example/b/c.pdf?sig=1"}},
    ]


@pytest.mark.parametrize(
    ("supports", "lacks"), [((), "image"), (("vision", "files"), "audio"), (("vision", "audio"), "file")]
)
def test_what_an_upstream_does_not_take_is_named(supports, lacks):
    word = {"image": "vision", "audio": "audio", "file": "files"}[lacks]
    why = unsupported_reason(call(SHOWN), UpstreamSettings(urls=("http://up/v1",), supports=supports))
    assert why is not None
    assert why.startswith(f"messages[0].content[{lacks}] is not text.")
    assert f'"{word}"' in why
