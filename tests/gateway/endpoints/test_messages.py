"""`POST /v1/messages` over real sockets, by Anthropic's official client and byte by byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import msgspec
import pytest
import trio

from actors.api.errors import BadKey, Busy, ErrorBody, Unavailable
from actors.api.response import Done, Failed, Start
from tests.actors.fakes import says, stage
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.fakes import SERVED, USAGE, FakeService, answer, words
from tests.gateway.harness import Gateway, Response, gateway

PATH = "/v1/messages"
ASK: dict[str, Any] = {"model": "penstock", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
BROKEN = ErrorBody(503, "server_error", "engine_failed", "It broke.", should_retry=True)
BREAKS = [[Start("tests", "small", 5)], words("Hel", "lo")[:1], [Failed(BROKEN, USAGE, SERVED)]]


@asynccontextmanager
async def official(running: Gateway, key: str = "none", retries: int = 0) -> AsyncIterator[anthropic.AsyncAnthropic]:
    address = f"http://127.0.0.1:{running.port}"
    async with anthropic.AsyncAnthropic(base_url=address, api_key=key, max_retries=retries) as client:
        yield client


async def test_the_ids_of_a_message() -> None:
    headers = f"x-api-key: {KEY.raw}\r\n"
    async with stage({"small": says("okay then", prompt=2)}, settings=SETTINGS) as service:
        async with gateway(service.service) as running:
            client = await running.connect()
            message = await client.request(PATH, {**ASK, "model": "small"}, headers=headers)
            chat = await client.request("/v1/chat/completions", {**ASK, "model": "small"}, headers=headers)
        await service.service.write_ledger(1)
        rows = service.rows()
        assert set(rows) == {each.headers["x-request-id"] for each in (message, chat)}
        assert len({row["tenant"] for row in rows.values()}) == 1
        assert message.headers["request-id"] == message.headers["x-request-id"]
        assert message.json["id"] == f"msg_{message.headers['request-id']}"
        assert "request-id" not in chat.headers


async def test_a_bad_key() -> None:
    def check(key: str | None) -> None:
        if key != "right":
            raise BadKey(missing=key is None)

    async with gateway(FakeService(check_key=check)) as running:
        async with official(running, "wrong") as client:
            with pytest.raises(anthropic.AuthenticationError) as refused:
                await client.messages.create(**ASK)
        assert refused.value.type == "authentication_error"
        assert refused.value.request_id == refused.value.body["request_id"]
        async with official(running, "right") as client:
            assert (await client.messages.create(**ASK)).content[0].text == "Hello"


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ("x-api-key: a\r\n", "a"),
        ("X-Api-Key:  a \r\n", "a"),
        ("x-api-key: a\r\nauthorization: Bearer b\r\n", "b"),
        ("x-api-key: a\r\nauthorization: Basic b\r\n", "a"),
        ("x-api-key:\r\n", None),
    ],
)
async def test_which_header_is_the_key(headers: str, key: str | None) -> None:
    service = FakeService()
    async with gateway(service) as running:
        client = await running.connect()
        assert (await client.request(PATH, ASK, headers=headers)).status == 200
        (request,) = service.requests
        assert request.credentials.api_key == key
        assert {name for name, _ in request.credentials.headers} == {b"host", b"content-type", b"content-length"}


async def test_two_keys_are_none() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        refused = await client.request(PATH, ASK, headers="x-api-key: a\r\nx-api-key: b\r\n")
        assert (refused.status, refused.json["type"], refused.error["code"]) == (400, "error", "bad_request")


async def test_a_busy_server_is_asked_again_after_the_pause_that_it_names() -> None:
    scripts = [[Busy("queue_full", "Try later.", 0.01)], [Unavailable("loading", "Try later.", 0.01)], answer("Hello")]
    service = FakeService(lambda _: scripts.pop(0))
    async with gateway(service) as running, official(running, retries=2) as client:
        assert (await client.messages.create(**ASK)).content[0].text == "Hello"
        assert len(service.requests) == 3
        scripts.append([Busy("queue_full", "Try later.", 0.01)])
        with pytest.raises(anthropic.RateLimitError, match="Try later") as busy:
            await client.with_options(max_retries=0).messages.create(**ASK)
        assert busy.value.type == "rate_limit_error"


async def test_a_stream_that_breaks_raises_in_the_client() -> None:
    seen: list[str] = []

    def read(port: int) -> None:
        # The synchronous client: the other one leaves generators open when it raises.
        with (
            anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0) as client,
            client.messages.stream(**ASK) as stream,
        ):
            for event in stream:
                if event.type == "text":
                    seen.append(event.text)

    async with gateway(FakeService(lambda _: BREAKS)) as running:
        with pytest.raises(anthropic.APIStatusError, match="It broke"):
            await trio.to_thread.run_sync(read, running.port)
    assert seen == ["Hel"]


async def test_a_failure_after_the_head_is_an_event() -> None:
    beaten = trio.Event()

    async def wait() -> None:
        await beaten.wait()

    service = FakeService(lambda _: [wait, Unavailable("engine_failed", "It broke.")])
    async with gateway(service, heartbeat=0.01) as running:
        client = await running.connect()
        await client.post(PATH, {**ASK, "stream": True})
        assert (await client.head())[0] == 200
        assert await client.chunk() == b": ping\n\n"
        beaten.set()
        rest = b"".join([chunk async for chunk in client.chunks()]).replace(b": ping\n\n", b"")
        event, data = rest.decode().split("\n", 1)
        assert event == "event: error"
        error = msgspec.json.decode(data.strip().removeprefix("data: "))
        assert error["error"] == {"type": "overloaded_error", "message": "It broke.", "code": "engine_failed"}
        assert error["request_id"] == service.requests[0].request_id


async def test_a_failure_before_the_head_has_its_status() -> None:
    async with gateway(FakeService(lambda _: [Unavailable("engine_failed", "It broke.")])) as running:
        for streamed in (False, True):
            refused = await (await running.connect()).request(PATH, {**ASK, "stream": streamed})
            assert (refused.status, refused.error["type"]) == (503, "overloaded_error")


def numbered(response: Response) -> list[str]:
    return response.body.decode().split("\n\n")[:-1]


async def test_an_answer_is_kept_and_read_again() -> None:
    service = FakeService(lambda _: answer("Hel", "lo"))
    async with gateway(service) as running:
        client = await running.connect()
        headers = "Idempotency-Key: once\r\nx-penstock-resumable: true\r\n"
        asked = {**ASK, "stream": True}
        first = await client.request(f"{PATH}?beta=true", asked, headers=headers)
        again = await client.request(f"{PATH}?beta=true", asked, headers=headers)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.body == first.body
        assert len(service.requests) == 1
        events = numbered(first)
        kinds = [event.split("\n")[1] for event in events]
        assert (kinds[0], kinds[-1]) == ("event: message_start", "event: message_stop")
        for after in range(len(events)):
            rest = await client.get(f"/v1/streams/{first.headers['x-penstock-stream']}?after={after}")
            assert numbered(rest) == events[after:]
        other = await client.request(PATH, {**asked, "max_tokens": 8}, headers=headers)
        assert (other.status, other.json["type"]) == (422, "error")


async def test_an_answer_in_the_background() -> None:
    async with gateway(FakeService(lambda _: answer("Hel", "lo"))) as running:
        client = await running.connect()
        begun = await client.request(PATH, ASK, headers="x-penstock-background: true\r\n")
        assert begun.status == 202
        whole = await client.get(f"/v1/streams/{begun.json['id']}")
        assert whole.json["content"] == [{"type": "text", "text": "Hello"}]
        assert whole.json["id"] == f"msg_{begun.json['id']}"


@pytest.mark.parametrize("shows_served", [False, True])
async def test_the_model_is_the_one_that_answered_if_the_operator_says_so(shows_served: bool) -> None:
    served = msgspec.structs.replace(SERVED, model_served="small")
    start = Start("tests", "small", 5, model_served="small")
    service = FakeService(lambda _: [[start], words("Hello"), [Done(USAGE, served)]])
    async with (
        gateway(service, answer_model="served" if shows_served else "requested") as running,
        official(running) as client,
    ):
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            streamed = await stream.get_final_message()
        assert {whole.model, streamed.model} == {"small" if shows_served else "penstock"}


MISSING = [
    ("GET", PATH, 405, "invalid_request_error"),
    ("POST", f"{PATH}/batches", 404, "not_found_error"),
    ("GET", f"{PATH}/count_tokens/", 405, "invalid_request_error"),
    ("GET", "/v1/models/none", 404, "not_found_error"),
    ("GET", "/v1/complete", 404, "not_found_error"),
    ("GET", "/v1/models?page=2", 400, "invalid_request_error"),
]


@pytest.mark.parametrize(("method", "path", "status", "kind"), MISSING)
async def test_addresses_that_are_none(method: str, path: str, status: int, kind: str) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nanthropic-version: 2023-06-01\r\n\r\n"
        await client.send(head.encode())
        refused = await client.response()
        assert (refused.status, refused.json["type"], refused.error["type"]) == (status, "error", kind)
        assert refused.json["request_id"] == refused.headers["request-id"] == refused.headers["x-request-id"]
