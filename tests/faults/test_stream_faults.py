"""Faults of event streams, each with a real socket. The table of all traps is in test_http_faults.py."""

import openai
import pytest
import trio
from quart import Quart

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Failed
from tests.gateway.fakes import USAGE, FakeService, answer
from tests.gateway.harness import CHAT, STREAM, events, gateway
from tests.patience import PATIENCE_S

DRAINED = ErrorBody(503, "server_error", "draining", "The server shuts down.", should_retry=True)


@pytest.mark.parametrize("body", [CHAT, STREAM])
@pytest.mark.parametrize("spoken", [False, True])
async def test_gone_while_silent(body: dict[str, object], spoken: bool) -> None:
    service = FakeService(lambda _: [[Delta(0, "x", (1,))] if spoken else [], trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", body)
        await service.opened.wait()
        if spoken and body is STREAM:
            await client.head()
        await client.aclose()
        with trio.fail_after(PATIENCE_S):
            await service.responses[0].closed.wait()
        assert service.open_responses == 0


async def test_gone_behind_pipelined_bytes() -> None:
    service = FakeService(lambda _: [[Delta(0, "x", (1,))], trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        await client.head()
        await client.post("/v1/chat/completions", STREAM)
        await client.aclose()
        with trio.fail_after(PATIENCE_S):
            await service.responses[0].closed.wait()
        assert len(service.requests) == 1


async def test_heartbeats() -> None:
    speak, again = trio.Event(), trio.Event()
    service = FakeService(lambda _: [speak.wait, [Delta(0, "x", (1,))], again.wait, *answer("y")])
    async with gateway(service, heartbeat=0.05) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        status, headers = await client.head()
        assert (status, "x-penstock-rung" in headers) == (200, False)
        assert await client.chunk() == b": ping\n\n"
        assert await client.chunk() == b": ping\n\n"
        speak.set()
        while (chunk := await client.chunk()) == b": ping\n\n":
            pass
        assert events(chunk)[-1]["choices"][0]["delta"] == {"content": "x"}
        assert await client.chunk() == b": ping\n\n"
        again.set()
        assert events(b"".join([chunk async for chunk in client.chunks()]))[-1] == "[DONE]"


async def test_an_error_after_the_head_went_out_with_a_heartbeat() -> None:
    fail = trio.Event()
    service = FakeService(lambda _: [fail.wait, RuntimeError()])
    async with gateway(service, heartbeat=0.05) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        assert (await client.head())[0] == 200
        fail.set()
        body = b"".join([chunk async for chunk in client.chunks()])
        assert events(body)[-1]["error"]["code"] == "internal_error"


async def test_no_timeout_of_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quart, "default_config", {**Quart.default_config, "RESPONSE_TIMEOUT": 0.01})
    pings = 0
    service = FakeService(lambda _: [[Delta(0, "x", (1,))], trio.sleep_forever])
    async with gateway(service, heartbeat=0.05) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        await client.head()
        while pings < 3:
            pings += await client.chunk() == b": ping\n\n"
        # Nor are the routes that do go through it.
        assert (await (await running.connect()).get("/metrics")).status == 200


async def test_drain() -> None:
    drained = trio.Event()
    service = FakeService(lambda _: [[Delta(0, "x", (1,))], drained.wait, [Failed(DRAINED, USAGE)]])
    async with gateway(service) as running, trio.open_nursery() as nursery:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        await client.head()
        nursery.start_soon(running.server.finish, PATIENCE_S)
        await trio.testing.wait_all_tasks_blocked(0.01)
        drained.set()
        body = b"".join([chunk async for chunk in client.chunks()])
        assert events(body)[-1]["error"]["code"] == "draining"
        assert await client.ended() == b""


@pytest.mark.parametrize("end", ["failed", "crash", "cut"])
async def test_truncated_is_no_success(end: str) -> None:
    steps = {
        "failed": [[Failed(DRAINED, USAGE)]],
        "crash": [RuntimeError()],
        "cut": [trio.sleep_forever],
    }
    service = FakeService(lambda _: [[Delta(0, "Hel", (1,))], *steps[end]])

    text = ""

    def read(port: int) -> None:
        nonlocal text
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0) as client:
            for chunk in client.chat.completions.create(**STREAM):
                text += chunk.choices[0].delta.content or ""
                if text == "Hel" and end == "cut":
                    trio.from_thread.run(running.server.finish, 0)

    said = {"failed": "shuts down", "crash": "log says why", "cut": "Connection error"}
    async with gateway(service) as running:
        with pytest.raises(openai.APIError, match=said[end]):
            await trio.to_thread.run_sync(read, running.port)
        assert text == "Hel"
