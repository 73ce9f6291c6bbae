"""An upstream continues another one's answer from its text, so that no engine and no tokenizer is needed."""

from pathlib import Path

import pytest
import trio

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from actors.api.response import Delta, Done, Failed
from config.load import parse_settings
from engine.sampling.grammar import Grammar
from engine.text.reasoning import PRESETS
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.fakes import TEMPLATE, model_text
from tests.actors.fakes import says as engine_says
from tests.actors.request.test_response_stream import fails_at
from tests.actors.upstream.network import Asked, event
from tests.actors.upstream.test_upstream_actor import CHAT, HI, SHARED, config, outcomes, stage

TEXT = "naïve 東京, the quick brown fox"
OUTSIDE = """
schema = 1
[ledger]
path = ":memory:"
[upstreams.cloud]
urls = ["http://a/v1"]
[upstreams.other]
urls = ["http://b/v1"]
supports = ["continue"]
[models.any]
[[routes]]
name = "all"
use = {{ ladder = "both" }}
midstream = "{midstream}"
[[ladders.both]]
to = "cloud"
[[ladders.both]]
to = "other"
"""


def begins(text: str, *, thought: str = ""):
    """A server that sends part of an answer and closes the connection."""

    async def serve(asked: Asked) -> None:
        await asked.say()
        if thought:
            await asked.chunk(event(choices=[{"index": 0, "delta": {"reasoning_content": thought}}]))
        await asked.say(*[text[start : start + 3] for start in range(0, len(text), 3)], pause_s=0.1, head=False)
        await trio.sleep(0.1)
        await asked.stream.aclose()

    return serve


async def ends(asked: Asked) -> None:
    """A server that continues the given text, as vLLM does."""
    if asked.target.endswith("/v1/completions"):
        shown = asked.body["prompt"].removeprefix("x")
    else:
        last = asked.body["messages"][-1]
        shown = last["content"] if last["role"] == "assistant" else ""
        assert asked.body.get("continue_final_message", False) is bool(shown)
    assert TEXT.startswith(shown)
    await asked.say(TEXT[len(shown) :])
    await asked.end(completion=9)


@pytest.mark.parametrize("prompts", [CHAT, (TextPrompt("x"),)], ids=["chat", "text"])
@pytest.mark.parametrize("said", [3, 7, 12])
async def test_the_next_upstream_goes_on_after_the_text(autojump_clock, said, prompts):
    async with stage({"a": begins(TEXT[:said]), "b": ends}, text=OUTSIDE.format(midstream="continue")) as (
        service,
        network,
    ):
        answer = await service.ask("any", prompts=prompts, max_tokens=50)
        assert isinstance(answer.end, Done)
        assert answer.text() == TEXT
        assert [each[:2] for each in outcomes(answer)] == [("cloud", "failed"), ("other", "answered")]
        assert (answer.end.usage.completion_tokens, answer.reasons()) == (-(-said // 3) + 9, ["stop"])
        assert network.asked[1].body["max_tokens"] == 50 - -(-said // 3)
        await service.assert_clean()
        assert service.row("r1")["completion_tokens"] == answer.end.usage.completion_tokens


async def test_what_is_not_supported_is_not_asked(autojump_clock):
    text = OUTSIDE.format(midstream="continue").replace('supports = ["continue"]\n', "")
    async with stage({"a": begins(TEXT[:6]), "b": ends}, text=text) as (service, network):
        answer = await service.ask("any", prompts=CHAT)
        assert isinstance(answer.end, Failed)
        assert (answer.text(), len(network.asked)) == (TEXT[:6], 1)


@pytest.mark.parametrize("midstream", ["error", "restart"])
async def test_only_where_the_route_says_so(autojump_clock, midstream):
    async with stage({"a": begins(TEXT[:6]), "b": ends}, text=OUTSIDE.format(midstream=midstream)) as (
        service,
        network,
    ):
        answer = await service.ask("any", prompts=CHAT)
        assert isinstance(answer.end, Failed)
        assert len(network.asked) == 1


async def test_token_ids_cannot_be_gone_on_with_without_a_tokenizer(autojump_clock):
    extra = 'supports = ["continue"]\n'
    async with stage({"a": begins(TEXT[:6])}, {"small": engine_says("x")}, extra=extra) as (service, _):
        answer = await service.ask("begins-there", prompts=(TokenPrompt((5, 6)),))
        assert answer.refusal is not None or answer.text() == "x"


async def test_never_inside_json_or_tools(autojump_clock):
    tool = Tool("add", {"type": "function", "function": {"name": "add"}}, {"type": "object"})
    for options in (
        {"prompts": CHAT, "grammar": Grammar("json_schema", '{"type":"object"}')},
        {"prompts": (ChatPrompt((ChatMessage("user", "Hi"),), ToolSet((tool,))),)},
    ):
        servers = {"a": begins(TEXT[:6]), "b": ends}
        async with stage(servers, text=OUTSIDE.format(midstream="continue")) as (service, network):
            answer = await service.ask("any", **options)
            assert isinstance(answer.end, Failed)
            assert len(network.asked) == 1


async def test_after_an_engine_with_another_tokenizer(autojump_clock):
    """The engine fails within an answer; the upstream gets the text and needs no ids."""

    def dies(number, batch):
        if number == 8:
            raise RuntimeError("broken")

    async with stage(ends, {"small": engine_says(TEXT, prompt=HI)}, extra='supports = ["continue"]\n') as (
        service,
        network,
    ):
        service.on_step["small"] = dies
        answer = await service.ask("goes-on", prompts=CHAT)
        assert answer.text() == TEXT
        assert [each[0] for each in outcomes(answer)] == ["small", "cloud"]
        shown = network.asked[0].body["messages"][-1]["content"]
        assert TEXT.startswith(shown)
        assert "\ufffd" not in shown


@pytest.mark.parametrize("midstream", ["continue", "restart"])
async def test_where_only_reasoning_was_sent_a_new_start_is_possible(autojump_clock, midstream):
    servers = {"a": begins("", thought="hm"), "b": ends}
    text = OUTSIDE.format(midstream=midstream).replace('supports = ["continue"]\n', "")
    async with stage(servers, text=text) as (service, _):
        answer = await service.ask("any", prompts=CHAT)
        assert isinstance(answer.end, Done)
        assert answer.text() == TEXT
        thoughts = [each.reasoning for each in answer.events if isinstance(each, Delta)]
        assert "".join(thoughts) == "hm"


@pytest.mark.parametrize("supports", ['["continue"]', "[]"])
def test_check_asks_for_no_tokenizer(supports):
    text = OUTSIDE.format(midstream="continue").replace('["continue"]', supports)
    assert parse_settings(text, Path("/nowhere/service.toml")).upstreams["other"].tokenizer is None


def test_the_shared_configuration_is_still_good():
    assert (
        parse_settings(config('supports = ["continue"]\n'), Path("/nowhere/service.toml")).upstreams["cloud"].supports
    )


THINK = PRESETS["think"]


async def test_an_engine_reads_no_reasoning_after_an_upstreams_text(autojump_clock):
    """Though its prompt opens a block: the upstream's reasoning was not in the text that it continues."""
    template = TEMPLATE + "<think>"
    texts = {"small": model_text(reasoning=THINK, template=template)}
    script = engine_says(TEXT, prompt=len(texts["small"].encode(CHAT[0])))
    async with stage(begins(TEXT[:5], thought="hm"), {"small": script}, extra=SHARED, texts=texts) as (service, _):
        answer = await service.ask("begins-there", prompts=CHAT)
        assert [each[:2] for each in outcomes(answer)] == [("cloud", "failed"), ("small", "answered")]
        assert answer.text() == TEXT


async def test_no_upstream_goes_on_with_reasoning_that_an_engine_began(autojump_clock):
    texts = {"small": model_text(reasoning=THINK)}
    script = engine_says("<think>a fox</think> the quick brown fox", prompt=HI)
    async with stage(ends, {"small": script}, extra=SHARED, texts=texts) as (service, network):
        service.on_step["small"] = fails_at(12)
        answer = await service.ask("goes-on", prompts=CHAT)
        assert ("cloud", "refused", "not_expressible") in outcomes(answer)
        assert network.asked == []
