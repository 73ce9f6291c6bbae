"""Why a call has failed is in the log and in the decision record, also where the upstream itself said nothing."""

import json

import pytest
import trio

from tests.actors.upstream.dialects import delta, end, part, parts, sse
from tests.actors.upstream.network import HEAD, Asked
from tests.actors.upstream.test_upstream_actor import CHAT, stage, status


def streaming(data: bytes):
    async def serve(asked: Asked) -> None:
        await asked.send(HEAD)
        await asked.chunk(data)
        await asked.send(b"0\r\n\r\n")

    return serve


async def lost(asked: Asked) -> None:
    await asked.stream.aclose()
    await trio.lowlevel.checkpoint()


CASES = [
    (status(502, body=b""), "502"),
    (status(418, body=b""), "418"),
    (lost, "gave no answer"),
    (None, "refused"),
    (streaming(sse(delta("a"), done=False)), "without a finish reason"),
    (streaming(sse(delta("a"), end("network_error"))), "network_error"),
    (streaming(sse(parts(part(0, "c1", "launch_rocket", "{}")), end("tool_calls"))), "launch_rocket"),
    (streaming(b"data: garbage\n\n"), "not a chunk"),
]


@pytest.mark.parametrize(("server", "words"), CASES)
async def test_the_reason_is_noted(autojump_clock, capsys, server, words):
    async with stage({} if server is None else server) as (service, _):
        await service.ask("cloud-only", prompts=CHAT)
        said = service.service.admin.decision("r1").attempts[0].said
    assert words in said
    lines = [line for line in capsys.readouterr().out.splitlines() if "upstream_call_ended" in line]
    assert lines
    assert all(words in line for line in lines)


async def test_a_reason_does_not_quote_the_prompt(autojump_clock, capsys):
    word = "my-private-diary-of-this-very-long-year"
    prompt = (type(CHAT[0])((type(CHAT[0].messages[0])("user", f"Call {word} now"),)),)
    calls = sse(parts(part(0, "c1", word, "{}")), end("tool_calls"))
    async with stage(streaming(calls)) as (service, _):
        await service.ask("cloud-only", prompts=prompt)
        assert "private" not in service.service.admin.decision("r1").attempts[0].said
    assert "private" not in capsys.readouterr().out


async def test_a_status_is_in_the_log_beside_the_upstreams_words(autojump_clock, capsys):
    body = json.dumps({"error": {"message": "no such path"}}).encode()
    async with stage(status(404, body=body)) as (service, _):
        await service.ask("cloud-only", prompts=CHAT)
    line = next(line for line in capsys.readouterr().out.splitlines() if "upstream_call_ended" in line)
    assert "status=404" in line
    assert "no such path" in line
