"""Every dialect through the whole service, streamed and whole; the answer does not depend on how the bytes are cut."""

import json

import pytest
import trio

from actors.api.request import ChatMessage, ChatPrompt
from actors.api.response import Delta, Done, Failed
from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import UpstreamCallError
from actors.upstream.reading.response_reader import ResponseReader
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.upstream.dialects import OFFERED, ROWS, Row
from tests.actors.upstream.network import Asked
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, HI, outcomes, stage
from tests.sampling import named

TOOLS = ToolSet(
    tuple(
        [
            Tool(
                name,
                {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}},
                {"type": "object"},
            )
            for name in OFFERED
        ]
    )
)
WITH_TOOLS = (ChatPrompt((ChatMessage("user", "Hi there"),), TOOLS),)
THE_SERVICE_ALONE = [name for name, row in ROWS if row.encoding or row.kind == "text/html"]
"""Fields that the answer's reader does not see."""


def server(row: Row):
    async def serve(asked: Asked) -> None:
        chunked = row.framing in {"chunked", "cut", "open"}
        lines = [f"HTTP/1.1 {row.status} OK"]
        lines += [f"content-type: {row.kind}"] if row.kind is not None else []
        lines += [f"content-encoding: {row.encoding}"] if row.encoding else []
        lines += ["transfer-encoding: chunked"] if chunked else []
        if row.framing in {"length", "short"}:
            lines.append(f"content-length: {len(row.spoken) + 9 * (row.framing == 'short')}")
        await asked.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        for start in range(0, len(row.spoken), 200):
            piece = row.spoken[start : start + 200]
            await (asked.chunk(piece) if chunked else asked.send(piece))
            await trio.sleep(0.05)
        if row.framing == "chunked":
            await asked.send(b"0\r\n\r\n")
        if row.framing == "open":
            await trio.sleep_forever()
        if row.framing in {"close", "cut", "short"}:
            await asked.stream.aclose()

    return serve


@pytest.mark.sample(60, always=THE_SERVICE_ALONE)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("row", named(ROWS))
async def test_what_is_said_arrives(autojump_clock, row, streamed):
    async with stage(server(row)) as (service, network):
        answer = await service.ask("cloud-only", prompts=WITH_TOOLS if row.tools else CHAT, streamed=streamed)
        assert len(network.asked) == 1
        if row.broken:
            assert answer.refusal is not None or isinstance(answer.end, Failed)
            assert answer.reasons() == []
            assert answer.text() == (row.text if streamed else "")
            assert row.broken in dict(service.service.statistics().upstreams["cloud"].failures_total)
            return
        assert answer.refusal is None
        assert isinstance(answer.end, Done)
        assert outcomes(answer)[0][:2] == ("cloud", "answered")
        deltas = [event for event in answer.events if isinstance(event, Delta)]
        assert answer.text() == row.text
        assert "".join(each.reasoning for each in deltas) == row.reasoning
        assert any(each.refuses for each in deltas) is row.refuses
        calls = [call for each in deltas for call in each.calls]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == list(row.calls)
        assert [call.index for call in calls] == list(range(len(calls)))
        assert answer.reasons() == [row.finish]
        used = answer.end.usage
        if row.tokens is None:
            assert used.completion_tokens > 0
        else:
            assert used.completion_tokens == row.tokens
        assert used.prompt_tokens == (row.prompt or HI) or row.tools
        assert used.cached_tokens == row.cached
        await service.assert_clean()
        line = service.row("r1")
        assert (line["completion_tokens"], line["outcome"]) == (used.completion_tokens, "ok")


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS if name not in THE_SERVICE_ALONE])
def test_any_cut_is_the_same_answer(row):
    for size in (1, 7, 1 << 20):
        check(row, size)


def check(row: Row, size: int) -> None:
    """The reader's answer to the response in pieces of `size` bytes."""
    reader = ResponseReader(1, 100, offered=OFFERED if row.tools else ())
    said: list[TextDelta] = []
    kind = ""
    try:
        for start in range(0, len(row.spoken), size):
            output = reader.feed(row.spoken[start : start + size])
            said += [output] if output is not None else []
            if reader.error is not None:
                raise reader.error
        output = reader.lost() if row.framing in {"cut", "short", "open"} else reader.end()
        said += [output] if output is not None else []
    except UpstreamCallError as error:
        kind = error.failure.kind
    assert kind == row.broken
    assert "".join(each.text for each in said) == row.text
    assert all(each.finish is None for each in said[:-1])
    if not kind:
        assert "".join(each.reasoning for each in said) == row.reasoning
        assert [(call.name, json.loads(call.arguments)) for call in said[-1].tool_calls] == list(row.calls)
        assert said[-1].finish is not None
        assert said[-1].upstream_finish == row.word
        assert sum(each.token_count for each in said) == said[-1].finish.completion_tokens == reader.tokens


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_call_that_nobody_offered_is_the_next_rungs_to_answer(autojump_clock, streamed):
    row = next(row for _, row in ROWS if row.name == "a name that nobody offered")
    async with stage(server(row), FINE) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT, streamed=streamed)
        assert (answer.text(), answer.reasons()) == ("fine", ["stop"])
        assert outcomes(answer)[0] == ("cloud", "failed", "upstream_garbled")


MODELS_FAULT = ("a name that nobody offered", "arguments that are cut", "a call without a name")


@pytest.mark.parametrize("name", MODELS_FAULT)
async def test_what_a_model_says_shuts_nobody_out(autojump_clock, name):
    """A prompt can cause such output, so it must not open the breaker, which all clients share."""
    row = next(row for _, row in ROWS if row.name == name)
    async with stage(server(row)) as (service, network):
        for _ in range(15):
            assert (await service.ask("cloud-only", prompts=WITH_TOOLS)).refusal is not None
        assert len(network.asked) == 15
        assert service.breaker("cloud").failed == 0
