"""`/v1/stream` with a real WebSocket client, and with raw frames where that client is too polite."""

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed
from wsproto.events import TextMessage

from actors.api.errors import BadKey, Busy, ErrorBody
from actors.api.request import InferenceRequest
from actors.api.response import DecisionInfo, Delta, Done, Failed, Start
from tests.gateway.fakes import SERVED, USAGE, FakeService, Step, answer
from tests.gateway.harness import CHAT, UPGRADE, connected, gateway

START = {"type": "start", **CHAT}


async def test_one_request() -> None:
    service = FakeService()
    async with gateway(service) as running, connected(running, [(b"Authorization", b"Bearer k")]) as socket:
        await socket.send({**START, "id": "a", "temperature": 0})
        started, *tokens, usage, done = await socket.until("done")
        assert (started["type"], started["id"], started["route"], started["rung"]) == ("started", "a", "tests", "small")
        assert [(each["type"], each["index"], each["text"], each["finish_reason"]) for each in tokens] == [
            ("token", 0, "Hel", None),
            ("token", 0, "lo", "stop"),
        ]
        assert (usage["type"], usage["total_tokens"]) == ("usage", 8)
        assert done["penstock"]["why"] == "confident"
        assert (service.requests[0].credentials.api_key, service.requests[0].body.params.temperature) == ("k", 0)
        assert service.requests[0].request_id == started["request_id"]
        # The id is free again.
        await socket.send({"type": "start", "id": "a", "endpoint": "completions", "model": "m", "prompt": "x"})
        assert (await socket.until("done"))[-1]["id"] == "a"


async def test_who_decided_is_reported_with_the_arm() -> None:
    service = FakeService()
    service.decided = DecisionInfo("abc123", "try it", "b")
    async with gateway(service) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        started = await socket.get()
        assert (started["policy"], started["experiment"], started["arm"]) == ("abc123", "try it", "b")
        await socket.until("done")
        service.decided = DecisionInfo("abc124")
        await socket.send({**START, "id": "a"})
        started = await socket.get()
        assert started["policy"] == "abc124"
        assert "arm" not in started


async def test_many_at_once_and_one_cancelled() -> None:
    release = trio.Event()

    def script(request: InferenceRequest) -> list[Step]:
        if request.body.model == "slow":
            return [[Start("t", "small", 1), Delta(0, "x", (1,))], trio.sleep_forever]
        return [release.wait, *answer(request.body.model)]

    service = FakeService(script)
    async with gateway(service) as running, connected(running) as socket:
        for name in ("a", "slow", "b"):
            await socket.send({**START, "id": name, "model": name})
        await socket.until("token")
        release.set()
        ends = {(await socket.until("done"))[-1]["id"] for _ in range(2)}
        assert ends == {"a", "b"}
        await socket.send({"type": "cancel", "id": "slow"})
        (error,) = await socket.until("error")
        assert (error["id"], error["error"]["code"]) == ("slow", "cancelled")
        assert service.open_responses == 0
        await socket.send({"type": "cancel", "id": "slow"})  # too late is no mistake
        await socket.send({**START, "id": "slow", "model": "c"})
        assert (await socket.until("done"))[-1]["id"] == "slow"


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ("{", "malformed_json", "ends too early"),
        ("", "malformed_json", "empty"),
        ("[]", "invalid_type", "an object"),
        ('{"id": "a"}', "missing_field", "'type'"),
        ('{"type": "strat", "id": "a"}', "unknown_type", "'start'"),
        ('{"type": "start", "model": "m", "messages": []}', "missing_field", "'id'"),
        ('{"type": "start", "id": "a", "model": "m", "messages": []}', "invalid_value", "at least one message"),
        ('{"type": "start", "id": "a", "model": "m", "messages": [], "top_p": 0}', "invalid_value", "top_p"),
        ('{"type": "start", "id": "a", "mdoel": "m", "messages": []}', "unknown_field", "'model'"),
        ('{"type": "start", "id": "a", "endpoint": "embeddings", "model": "m"}', "invalid_value", "endpoint"),
        ('{"type": "start", "id": "a", "model": "m", "messages": [], "stream": false}', "invalid_value", "streamed"),
        ('{"type": "cancel"}', "missing_field", "'id'"),
        ('{"type": "cancel", "id": "a", "id": "b"}', "duplicate_field", "twice"),
        (b"", "binary_message", "text frames"),
        (b"\x00\x01", "binary_message", "text frames"),
    ],
)
async def test_a_bad_message_is_answered_and_costs_nobody_else_anything(
    message: str | bytes, code: str, words: str
) -> None:
    release = trio.Event()
    service = FakeService(lambda _: [release.wait, *answer("fine")])
    async with gateway(service) as running, connected(running) as socket:
        await socket.send({**START, "id": "other"})
        await socket.raw.send_message(message)
        error = await socket.get()
        assert (error["type"], error["error"]["code"]) == ("error", code)
        assert words in error["error"]["message"]
        release.set()
        assert (await socket.until("done"))[-1]["id"] == "other"


async def test_ids_are_unique_and_requests_bounded() -> None:
    service = FakeService(lambda _: [trio.sleep_forever])
    async with gateway(service, limits={"max_streams": 2}) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        await socket.send({**START, "id": "a"})
        error = await socket.get()
        assert (error["id"], error["error"]["code"]) == (None, "duplicate_id")
        await socket.send({**START, "id": "b"})
        await socket.send({**START, "id": "c"})
        error = await socket.get()
        assert (error["id"], error["error"]["code"], error["error"]["should_retry"]) == ("c", "too_many_streams", True)


async def test_refusals_and_failures_name_their_request() -> None:
    failure = ErrorBody(503, "server_error", "engine_failed", "The engine failed.", should_retry=True)

    def script(request: InferenceRequest) -> list[Step]:
        match request.body.model:
            case "busy":
                raise Busy("queue_full", "The queue is full.", 2.5)
            case "crash":
                return [RuntimeError("secret")]
            case _:
                return [[Delta(0, "x", (1,))], [Failed(failure, USAGE)]]

    service = FakeService(script)
    async with gateway(service) as running, connected(running) as socket:
        for name, code in (("busy", "queue_full"), ("crash", "internal_error"), ("fails", "engine_failed")):
            await socket.send({**START, "id": name, "model": name})
            error = (await socket.until("error"))[-1]
            assert (error["id"], error["error"]["code"]) == (name, code)
        assert service.open_responses == 0


async def test_a_close_frees_what_runs() -> None:
    service = FakeService(lambda _: [trio.sleep_forever])
    async with gateway(service) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        await service.opened.wait()
        await socket.raw.aclose(4321, "enough")
        await service.responses[0].closed.wait()
        assert socket.raw.closed.code == 4321


async def test_the_server_goes_away_when_what_runs_has_ended() -> None:
    release = trio.Event()
    service = FakeService(lambda _: [release.wait, *answer("x")])
    async with gateway(service) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        await service.opened.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.finish, 10)
            await trio.testing.wait_all_tasks_blocked(0.01)
            release.set()
            assert (await socket.until("done"))[-1]["id"] == "a"
            with pytest.raises(ConnectionClosed):
                await socket.get()
        assert socket.raw.closed.code == 1001


async def test_after_a_hand_over_what_runs_ends_and_nothing_begins() -> None:
    release = trio.Event()
    service = FakeService(lambda _: [release.wait, *answer("x")])
    async with gateway(service) as running, connected(running) as socket, connected(running) as idle:
        await socket.send({**START, "id": "a"})
        await service.opened.wait()
        running.server.hand_over()
        with pytest.raises(ConnectionClosed):
            await idle.get()
        await socket.send({**START, "id": "b"})
        refused = (await socket.until("error"))[-1]
        assert (refused["id"], refused["error"]["code"]) == ("b", "shutting_down")
        release.set()
        assert (await socket.until("done"))[-1]["id"] == "a"
        with pytest.raises(ConnectionClosed):
            await socket.get()
        await running.server.closed()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: https://good.example.evil\r\n", 403),
        ("Origin: null\r\n", 403),
        (f"X-Penstock-Tags: {'x' * 200}\r\n", 400),
    ],
)
async def test_a_refused_handshake(headers: str, status: int) -> None:
    async with gateway(FakeService(), ws_origins=("https://good.example",)) as running:
        client = await running.connect()
        assert (await client.get("/v1/stream", headers=UPGRADE + headers)).status == status
        async with connected(running, [(b"Origin", b"https://good.example")]) as socket:
            await socket.send({**START, "id": "a"})
            await socket.until("done")


async def test_a_handshake_without_a_key_where_keys_are_needed() -> None:
    def check_key(key: str | None) -> None:
        if key != "right":
            raise BadKey(missing=key is None)

    async with gateway(FakeService(check_key=check_key)) as running:
        client = await running.connect()
        response = await client.get("/v1/stream", headers=UPGRADE)
        assert (response.status, response.error["code"]) == (401, "invalid_api_key")
        async with connected(running, [(b"Authorization", b"Bearer right")]) as socket:
            await socket.send({**START, "id": "a"})
            await socket.until("done")


async def test_plain_http_is_reported_to_upgrade() -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).get("/v1/stream")
        assert (response.status, response.error["code"]) == (426, "upgrade_required")
        response = await (await running.connect()).request("/v1/stream", {})
        assert response.status == 405


async def test_too_big_a_message_closes_with_1009() -> None:
    async with gateway(FakeService(), limits={"max_body_bytes": 1000}) as running, connected(running) as socket:
        await socket.send({"type": "start", "id": "x" * 2000})
        with pytest.raises(ConnectionClosed):
            await socket.get()
        assert socket.raw.closed.code == 1009


async def test_messages_in_fragments() -> None:
    async with gateway(FakeService()) as running, connected(running) as socket:
        text = msgspec.json.encode({**START, "id": "a"}).decode()
        connection = socket.raw._wsproto
        for part, last in ((text[:9], False), (text[9:], True)):
            data = connection.send(TextMessage(data=part, message_finished=last))
            await socket.raw._stream.send_all(data)
        assert (await socket.until("done"))[-1]["id"] == "a"


async def test_done_needs_no_content() -> None:
    async with gateway(FakeService(lambda _: [[Done(USAGE, SERVED)]])) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        assert [each["type"] for each in await socket.until("done")] == ["usage", "done"]


RUNNING = {"type": "start", "id": "a", **CHAT}


@pytest.mark.parametrize(
    ("message", "code", "rejected"),
    [
        (RUNNING, "duplicate_id", {"type": "start", "id": "a"}),
        ({**RUNNING, "temperature": 99}, "duplicate_id", {"type": "start", "id": "a"}),
        ({**RUNNING, "endpoint": "nowhere"}, "duplicate_id", {"type": "start", "id": "a"}),
        ({"type": "cancel", "id": "a", "why": "no"}, "unknown_field", {"type": "cancel", "id": "a"}),
        ({"type": "stop", "id": "a"}, "unknown_type", {"type": "stop", "id": "a"}),
        ({"type": "x" * 1000, "id": "a"}, "unknown_type", {"type": "x" * 64, "id": "a"}),
        ({"type": "start", "id": 7}, "invalid_type", None),
        ({"type": "start", "id": ["a"]}, "invalid_type", None),
        ({"type": "start"}, "missing_field", None),
        ({"type": "start", "id": ""}, "missing_field", None),
        ({"id": "a"}, "missing_field", None),
        ({"type": "cancel"}, "missing_field", None),
        ({"type": "start", "id": "a" * 129}, "invalid_value", None),
        (["start", "a"], "invalid_type", None),
    ],
)
async def test_an_error_about_a_message_does_not_end_a_request(message: object, code: str, rejected: object) -> None:
    """What carries the id of a running request ends it, for the client; this one runs on and says so."""
    release = trio.Event()
    first, *rest = answer("Hel", "lo")
    async with gateway(FakeService(lambda _: [first, release.wait, *rest])) as running, connected(running) as socket:
        await socket.send(RUNNING)
        await socket.until("started")
        await socket.send(message)
        error = await socket.get()
        assert error["error"]["code"] == code
        assert not error["id"]
        assert error.get("rejected") == rejected
        release.set()
        *_, done = await socket.until("done")
        assert done["id"] == "a"
        # The name is free again.
        await socket.send(RUNNING)
        assert (await socket.until("done"))[-1]["id"] == "a"


async def test_an_error_of_a_start_has_its_id() -> None:
    async with gateway(FakeService()) as running, connected(running) as socket:
        for message in ({**RUNNING, "temperature": 99}, {"type": "strat", "id": "a"}):
            await socket.send(message)
            error = await socket.get()
            assert (error["id"], "rejected" in error) == ("a", False)
        # A request that is not there may have ended just now: no mistake.
        await socket.send({"type": "cancel", "id": "a"})
        await socket.send(RUNNING)
        assert (await socket.get())["type"] == "started"
