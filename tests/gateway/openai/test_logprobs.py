"""`echo` and `prompt_logprobs` as clients see them."""

import math
from typing import Any

import pytest

from actors.api.request import InferenceRequest
from actors.api.response import Delta, Done, Start
from engine.messages import TokenLogprobs
from gateway.openai.logprobs import CompletionLogprobs
from tests.gateway.fakes import SERVED, USAGE, FakeService, Step
from tests.gateway.harness import events, gateway

TEXT = {"model": "m", "prompt": "<s> Hé!", "echo": True}


def said(token: int, text: bytes, logprob: float, *top: tuple[int, float, bytes], special: bool = False, rank: int = 1):
    return TokenLogprobs(token, logprob, text, top, special=special, rank=rank)


PROMPT = (
    said(0, b"<s>", math.nan, special=True, rank=0),
    said(1, b" H", -1.0, (1, -1.0, b" H"), (2, -3.0, b"x")),
    # Two halves of a character; the likelier alternative looks the same as the half itself.
    said(3, b"\xc3", -4.0, (4, -0.5, b"\xe9"), (5, -0.6, b"\xea"), rank=3),
    said(6, b"\xa9", -2.0, (7, -0.25, b"z"), rank=2),
)
ANSWER = said(8, b"!", -0.125, (8, -0.125, b"!"), (2, -9.0, b"x"))


def service(*, only_prompt: bool = False, choices: int = 1) -> FakeService:
    def script(request: InferenceRequest) -> list[Step]:
        echo = ("Hé",) * choices if request.body.view.echo else ()
        deltas = []
        for index in range(choices):
            ids, text, positions = ((), "", ()) if only_prompt else ((8,), "!", (ANSWER,))
            deltas.append([Delta(index, text, ids, positions, "length", prompt_logprobs=PROMPT)])
        return [[Start("tests", "small", 4, echo)], *deltas, [Done(USAGE, SERVED)]]

    return FakeService(script)


async def ask(scripted: FakeService, body: dict[str, Any], path: str = "/v1/completions") -> Any:
    async with gateway(scripted) as running:
        client = await running.connect()
        response = await client.request(path, body)
        return events(response.body) if body.get("stream") else response.json


ECHOED = {
    "tokens": ["<s>", " H", "\ufffd", "\ufffd", "!"],
    "text_offset": [0, 0, 1, 1, 2],
    "token_logprobs": [None, -1.0, -4.0, -2.0, -0.125],
    "top_logprobs": [None, {" H": -1.0}, {"\ufffd": -0.5}, {"z": -0.25, "\ufffd": -2.0}, {"!": -0.125}],
}


@pytest.mark.parametrize(
    ("pieces", "offsets"),
    [
        ([b"\xc3", b"\xa9", b"x"], [0, 0, 1]),
        ([b"a", b"\xed", b"p"], [0, 1, 2]),
        ([b"\xed", b"\xc3", b"\xa9"], [0, 1, 1]),
        ([b"\xf0\x9f", b"\x98a", b"b"], [0, 0, 2]),
        ([b"\xf0", b"\x80", b"b"], [0, 1, 2]),
        ([b"\xe2\x82", b"", b"\xac!"], [0, 0, 0]),
    ],
)
def test_an_offset_is_that_of_a_tokens_first_whole_character(pieces: list[bytes], offsets: list[int]) -> None:
    positions = [said(token, piece, -1.0) for token, piece in enumerate(pieces)]
    assert CompletionLogprobs().fields(positions, 0)["text_offset"] == offsets


async def test_echo_begins_text_and_logprobs_with_the_prompt() -> None:
    scripted = service()
    (choice,) = (await ask(scripted, {**TEXT, "logprobs": 1, "max_tokens": 1}))["choices"]
    assert choice["text"] == "Hé!"
    assert choice["logprobs"] == ECHOED
    assert "prompt_logprobs" not in choice
    params = scripted.requests[0].body.params
    assert (params.logprobs, params.prompt_logprobs, params.prompt_only) == (1, 1, False)


async def test_echo_alone_asks_nothing_of_the_engine() -> None:
    scripted = service(only_prompt=True)
    (choice,) = (await ask(scripted, {**TEXT, "max_tokens": 0}))["choices"]
    assert (choice["text"], choice["logprobs"], choice["finish_reason"]) == ("Hé", None, "length")
    params = scripted.requests[0].body.params
    assert (params.prompt_logprobs, params.prompt_only, params.max_tokens) == (None, True, 1)


async def test_streams_echo_first() -> None:
    scripted = service(choices=2)
    *chunks, done = await ask(scripted, {**TEXT, "prompt": ["a", "b"], "logprobs": 1, "stream": True})
    assert done == "[DONE]"
    for index in (0, 1):
        first, second, *_ = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
        assert (first["text"], second["text"]) == ("Hé", "!")
        assert all(first["logprobs"][key] == value[:4] for key, value in ECHOED.items())
        assert all(second["logprobs"][key] == value[4:] for key, value in ECHOED.items())


RANKED = [
    None,
    {"1": {"logprob": -1.0, "rank": 1, "decoded_token": " H"}, "2": {"logprob": -3.0, "rank": 2, "decoded_token": "x"}},
    {
        "5": {"logprob": -0.6, "rank": 2, "decoded_token": "\ufffd"},
        "4": {"logprob": -0.5, "rank": 1, "decoded_token": "\ufffd"},
        "3": {"logprob": -4.0, "rank": 3, "decoded_token": "\ufffd"},
    },
    {
        "7": {"logprob": -0.25, "rank": 1, "decoded_token": "z"},
        "6": {"logprob": -2.0, "rank": 2, "decoded_token": "\ufffd"},
    },
]


async def test_prompt_logprobs_stand_in_each_choice_of_a_text_completion() -> None:
    asked = {"model": "m", "prompt": "a", "prompt_logprobs": 2}
    body = await ask(service(choices=2), {**asked, "n": 2})
    assert [each["prompt_logprobs"] for each in body["choices"]] == [RANKED, RANKED]
    assert body["choices"][0]["text"] == "!"
    assert body["choices"][0]["logprobs"] is None
    first, second, *_ = await ask(service(), {**asked, "stream": True})
    assert (first["choices"][0]["text"], first["choices"][0]["prompt_logprobs"]) == ("", RANKED)
    assert "prompt_logprobs" not in second["choices"][0]


async def test_prompt_logprobs_stand_at_the_top_of_a_chat() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}], "prompt_logprobs": 1, "max_tokens": 0}
    scripted = service(choices=2)
    body = await ask(scripted, {**asked, "n": 2}, "/v1/chat/completions")
    assert [None if each is None else len(each) for each in body["prompt_logprobs"]] == [None, 1, 2, 2]
    assert scripted.requests[0].body.params.prompt_only
    streamed = await ask(service(choices=2), {**asked, "n": 2, "stream": True}, "/v1/chat/completions")
    assert streamed[0]["prompt_logprobs"] == body["prompt_logprobs"]
    assert not any("prompt_logprobs" in each for each in streamed[1:-1])


async def test_nobody_who_did_not_ask_gets_them() -> None:
    body = await ask(service(), {"model": "m", "prompt": "a"})
    assert "prompt_logprobs" not in body["choices"][0]
    assert body["choices"][0]["text"] == "!"
