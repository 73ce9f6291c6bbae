"""Retries with an Idempotency-Key and resumed streams, over real sockets."""

from typing import Any

import pytest
import trio

from actors.api.errors import Unavailable
from tests.gateway.fakes import HELD_BACK, FakeService, answer
from tests.gateway.harness import CHAT, STREAM, Response, connected, events, gateway, until

CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"
RESUMABLE = "x-penstock-resumable: true\r\n"
USAGE = {**STREAM, "stream_options": {"include_usage": True}}
PIECES = ("Hel", "lo", ", ", "you")


def key(name: str) -> str:
    return f"Idempotency-Key: {name}\r\n"


def blocks(response: Response) -> list[tuple[int, str]]:
    """Number and data of each event."""
    found = []
    for block in response.body.decode().split("\n\n")[:-1]:
        number, data = block.split("\n")
        found.append((int(number.removeprefix("id: ")), data))
    return found


def text_of(response: Response) -> str:
    chunks = list(events(response.body.replace(b"id: ", b"\n\nid: ").replace(b"\ndata", b"\n\ndata")))
    return "".join(
        [choice["delta"].get("content", "") for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"]]
    )


async def test_a_resumable_stream_has_numbered_events() -> None:
    async with gateway(FakeService(lambda _: answer(*PIECES))) as running:
        client = await running.connect()
        response = await client.request(CHAT_PATH, STREAM, headers=RESUMABLE)
        found = blocks(response)
        assert [number for number, _ in found] == list(range(1, len(found) + 1))
        assert found[-1][1] == "data: [DONE]"
        assert text_of(response) == "Hello, you"
        assert response.headers["x-penstock-stream"] == response.headers["x-request-id"]
        assert "idempotent-replayed" not in response.headers


@pytest.mark.parametrize("how", ["query", "header"])
@pytest.mark.parametrize(
    ("path", "body"), [(CHAT_PATH, USAGE), (TEXT_PATH, {"model": "penstock", "prompt": "x", "stream": True})]
)
async def test_a_stream_is_resumed_after_each_of_its_events(path: str, body: Any, how: str) -> None:
    service = FakeService(lambda _: answer(*PIECES))
    async with gateway(service) as running:
        client = await running.connect()
        whole = await client.request(path, body, headers=RESUMABLE)
        found = blocks(whole)
        stream = f"/v1/streams/{whole.headers['x-penstock-stream']}"
        for after in range(len(found) + 1):
            if how == "query":
                rest = await client.get(f"{stream}?after={after}")
            else:
                rest = await client.get(stream, headers=f"Last-Event-ID: {after}\r\n")
            assert rest.status == 200
            assert blocks(rest) == found[after:]
        assert len(service.requests) == 1


@pytest.mark.parametrize("headers", [RESUMABLE, "Idempotency-Key: k\r\n", ""])
@pytest.mark.parametrize("ends", ["well", "with a refusal"])
async def test_the_id_of_a_call_that_is_being_made_comes_before_the_call(headers: str, ends: str) -> None:
    goes_on = trio.Event()
    rest = answer(*PIECES) if ends == "well" else [Unavailable("no_rung_available", "No model could.", 1.0)]
    service = FakeService(lambda _: [HELD_BACK, goes_on.wait, *rest])
    async with gateway(service) as running:
        client = await running.connect()
        await client.post(CHAT_PATH, STREAM, headers=headers)
        if headers:
            status, found = await client.head()
            assert (status, found["x-penstock-stream"]) == (200, found["x-request-id"])
            assert await client.chunk() == b": ping\n\n"
            again = await (await running.connect()).get(f"/v1/streams/{found['x-penstock-stream']}/status")
            assert again.json["status"] == "running"
            goes_on.set()
        else:
            goes_on.set()
            status, found = await client.head()
            assert status == (200 if ends == "well" else 503)
        # What a rung says of itself is not known before.
        assert ("x-penstock-rung" in found) == (not headers and ends == "well")
        data = b""
        while status == 200 and (chunk := await client.chunk()):
            assert b"ping" not in chunk
            data += chunk
        if status == 200:
            assert (b"data: [DONE]" in data) == (ends == "well")
            assert (b'"code":"no_rung_available"' in data.replace(b" ", b"")) == (ends != "well")


async def test_it_goes_on_while_the_connection_is_lost() -> None:
    goes_on, steps = trio.Event(), answer(*PIECES)
    steps.insert(3, goes_on.wait)
    service = FakeService(lambda _: steps)
    async with gateway(service) as running:
        client = await running.connect()
        await client.post(CHAT_PATH, STREAM, headers=RESUMABLE)
        _, headers = await client.head()
        seen = b""
        while b'"lo"' not in seen:
            seen += await client.chunk()
        await client.aclose()
        last = int(seen.decode().rpartition("id: ")[2].partition("\n")[0])
        other = await running.connect()
        goes_on.set()
        rest = await other.get(f"/v1/streams/{headers['x-penstock-stream']}", headers=f"Last-Event-ID: {last}\r\n")
        assert text_of(rest) == ", you"
        assert next(number for number, _ in blocks(rest)) == last + 1
        assert len(service.requests) == 1
        await until(lambda: service.open_responses == 0)


async def test_without_a_wish_nothing_is_kept() -> None:
    waits = trio.Event()
    async with gateway(service := FakeService(lambda _: [*answer("a")[:2], waits.wait])) as running:
        for headers in ("", "x-penstock-resumable: false\r\n"):
            client = await running.connect()
            await client.post(CHAT_PATH, STREAM, headers=headers)
            _, found = await client.head()
            assert "x-penstock-stream" not in found
            assert b"id: " not in await client.chunk()
            await client.aclose()
            await until(lambda: service.open_responses == 0)


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_retry_gets_the_same_answer(body: Any) -> None:
    service = FakeService(lambda _: answer(*PIECES))
    async with gateway(service) as running:
        client = await running.connect()
        first = await client.request(CHAT_PATH, body, headers=key("k"))
        again = await client.request(CHAT_PATH, body, headers=key("k"))
        assert again.body == first.body
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["x-penstock-stream"] == first.headers["x-penstock-stream"]
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert len(service.requests) == 1


async def test_a_retry_attaches_to_an_answer_that_runs() -> None:
    goes_on, steps = trio.Event(), answer(*PIECES)
    steps.insert(2, goes_on.wait)
    service = FakeService(lambda _: steps)
    async with gateway(service) as running:
        first, second = await running.connect(), await running.connect()
        await first.post(CHAT_PATH, CHAT, headers=key("k"))
        await service.opened.wait()
        await first.aclose()
        await second.post(CHAT_PATH, CHAT, headers=key("k"))
        await until(lambda: service.kept.attached_total == 1)
        goes_on.set()
        response = await second.response()
        assert response.json["choices"][0]["message"]["content"] == "Hello, you"
        assert len(service.requests) == 1


async def test_another_body_or_address_under_the_same_key() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.request(CHAT_PATH, CHAT, headers=key("k"))
        for path, body in (
            (CHAT_PATH, STREAM),
            (CHAT_PATH, {**CHAT, "n": 2}),
            (TEXT_PATH, {"model": "penstock", "prompt": "x"}),
        ):
            response = await client.request(path, body, headers=key("k"))
            assert (response.status, response.error["code"]) == (422, "idempotency_key_reused")
        assert (await client.request(CHAT_PATH + "/", CHAT, headers=key("k"))).status == 200


async def test_tenants_share_no_keys_and_see_no_streams() -> None:
    service = FakeService()
    async with gateway(service) as running:
        client = await running.connect()
        ours = await client.request(CHAT_PATH, CHAT, headers=key("k") + "Authorization: Bearer us\r\n")
        theirs = await client.request(CHAT_PATH, CHAT, headers=key("k") + "Authorization: Bearer them\r\n")
        assert "idempotent-replayed" not in theirs.headers
        assert len(service.requests) == 2
        stream = f"/v1/streams/{ours.headers['x-penstock-stream']}"
        refused = await client.get(stream, headers="Authorization: Bearer them\r\n")
        unknown = await client.get("/v1/streams/" + "0" * 24, headers="Authorization: Bearer them\r\n")
        assert refused.status == unknown.status == 404
        assert refused.error == unknown.error
        assert refused.error["code"] == "answer_not_kept"
        mine = await client.get(stream, headers="Authorization: Bearer us\r\n")
        assert mine.json == ours.json


async def test_a_refusal_is_told_truly_and_tried_again() -> None:
    service = FakeService(lambda _: [Unavailable("engine_failed", "No rung could serve.", 2.0)])
    async with gateway(service) as running:
        client = await running.connect()
        for body in (CHAT, STREAM):
            refused = await client.request(CHAT_PATH, body, headers=key(str(body)[:40]))
            assert (refused.status, refused.error["code"]) == (503, "engine_failed")
            assert refused.headers["retry-after"] == "2"
        service.script = lambda _: answer("fine")
        assert (await client.request(CHAT_PATH, CHAT, headers=key(str(CHAT)[:40]))).status == 200


BAD = [
    ("Idempotency-Key: \r\n", "", "bad_header"),
    (f"Idempotency-Key: {'k' * 256}\r\n", "", "bad_header"),
    ("Idempotency-Key: käse\r\n", "", "bad_header"),
    ("x-penstock-resumable: 1\r\n", "", "bad_header"),
    ("x-penstock-background: yes\r\n", "", "bad_header"),
    (RESUMABLE, "?after=x", "invalid_value"),
    (RESUMABLE, "?after=-1", "invalid_value"),
    (RESUMABLE, "?after=" + "9" * 30, "invalid_value"),
    (RESUMABLE, "?since=3", "invalid_value"),
    (f"{RESUMABLE}Last-Event-ID: x\r\n", "?after=1", "invalid_value"),
    (RESUMABLE, f"?after={'9' * 5000}", "invalid_value"),
]


@pytest.mark.parametrize(("headers", "query", "code"), BAD)
async def test_bad_headers_and_parameters(headers: str, query: str, code: str) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        if query:
            made = await client.request(CHAT_PATH, STREAM, headers=headers)
            response = await client.get(f"/v1/streams/{made.headers['x-penstock-stream']}{query}", headers=headers)
        else:
            response = await client.request(CHAT_PATH, STREAM, headers=headers)
        assert (response.status, response.error["code"]) == (400, code)


async def test_the_methods_of_the_address() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for path, methods in (("/v1/streams/abc", "GET, DELETE"), ("/v1/streams/abc/status", "GET")):
            response = await client.request(path, {})
            assert (response.status, response.headers["allow"]) == (405, methods)
        for path in ("/v1/streams/", "/v1/streams/abc/other", "/v1/streams/abc/status/more"):
            missing = await client.get(path)
            assert (missing.status, missing.error["code"]) == (404, "not_found")


START = {"type": "start", "id": "a", "resumable": True, **CHAT}


async def test_a_socket_s_answer_is_resumed_after_each_of_its_messages() -> None:
    service = FakeService(lambda _: answer(*PIECES))
    async with gateway(service) as running:
        async with connected(running) as socket:
            await socket.send(START)
            whole = await socket.until("done")
        assert [message["number"] for message in whole] == list(range(1, len(whole) + 1))
        stream = whole[0]["stream"]
        assert stream == whole[0]["request_id"]
        async with connected(running) as socket:
            for after in range(len(whole)):
                await socket.send({"type": "resume", "id": "b", "stream": stream, "after": after})
                rest = await socket.until("done")
                assert rest == [{**message, "id": "b"} for message in whole[after:]]
            for after in (len(whole), len(whole) + 1):
                # There is no more: the end comes again, by which the id is free.
                await socket.send({"type": "resume", "id": "b", "stream": stream, "after": after})
                assert await socket.until("done") == [{**whole[-1], "id": "b"}]
        assert len(service.requests) == 1


async def test_a_socket_s_answer_goes_on_while_the_connection_is_lost() -> None:
    goes_on, steps = trio.Event(), answer(*PIECES)
    steps.insert(3, goes_on.wait)
    service = FakeService(lambda _: steps)
    async with gateway(service) as running:
        async with connected(running) as socket:
            await socket.send(START)
            seen = [await socket.get() for _ in range(3)]
        goes_on.set()
        async with connected(running) as socket:
            await socket.send({"type": "resume", "id": "a", "stream": seen[0]["stream"], "after": seen[-1]["number"]})
            rest = await socket.until("done")
        assert "".join([each.get("text", "") for each in seen + rest]) == "Hello, you"
        client = await running.connect()
        again = await client.get(f"/v1/streams/{seen[0]['stream']}")
        assert text_of(again) == "Hello, you"


async def test_a_cancel_ends_a_kept_answer_of_a_socket() -> None:
    service = FakeService(lambda _: [*answer("a")[:2], trio.sleep_forever])
    async with gateway(service) as running, connected(running) as socket:
        await socket.send(START)
        stream = (await socket.get())["stream"]
        await socket.get()
        await socket.send({"type": "cancel", "id": "a"})
        error = (await socket.until("error"))[-1]
        assert (error["error"]["code"], "number" in error) == ("cancelled", False)
        await until(lambda: service.open_responses == 0)
        await socket.send({"type": "resume", "id": "a", "stream": stream})
        assert (await socket.get())["error"]["code"] == "answer_not_kept"


async def test_bad_resumes_on_a_socket() -> None:
    async with gateway(FakeService()) as running, connected(running) as socket:
        for fields, code in (
            ({"stream": "0" * 24}, "answer_not_kept"),
            ({"stream": "0" * 24, "after": -1}, "invalid_value"),
            ({"stream": "0" * 24, "after": "x"}, "invalid_type"),
            ({}, "missing_field"),
            ({"stream": "0" * 24, "since": 3}, "unknown_field"),
        ):
            await socket.send({"type": "resume", "id": "a", **fields})
            message = await socket.get()
            assert (message["id"], message["error"]["code"]) == ("a", code)
        await socket.send({"type": "resume", "stream": "x"})
        assert (await socket.get())["error"]["code"] == "missing_field"


async def test_a_client_that_has_more_than_the_file_is_refused() -> None:
    """The disk had failed, and then the server."""
    service = FakeService(lambda _: answer(*PIECES))
    async with gateway(service) as running:
        client = await running.connect()
        made = await client.request(CHAT_PATH, STREAM, headers=RESUMABLE)
        stream = made.headers["x-penstock-stream"]
        count = len(blocks(made))
        service.kept.find(stream, "tests").answer.restored = 5
        for after, status in ((count, 200), (count + 1, 409)):
            response = await client.get(f"/v1/streams/{stream}?after={after}")
            assert response.status == status
        assert response.error["code"] == "events_lost"
        async with connected(running) as socket:
            await socket.send({"type": "resume", "id": "a", "stream": stream, "after": 99})
            assert (await socket.get())["error"]["code"] == "events_lost"


BACKGROUND = "x-penstock-background: true\r\n"


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_start_leave_and_come_back(body: Any) -> None:
    goes_on, steps = trio.Event(), answer(*PIECES)
    steps.insert(3, goes_on.wait)
    service = FakeService(lambda _: steps)
    async with gateway(service) as running:
        client = await running.connect()
        begun = await client.request(CHAT_PATH, body, headers=BACKGROUND)
        assert begun.status == 202
        stream = begun.json["id"]
        assert begun.json == {
            "id": stream,
            "object": "penstock.answer",
            "status": "running",
            "created": begun.json["created"],
            "model": "penstock",
            "stream": body is STREAM,
            "completion_tokens": 0,
            "error": None,
        }
        assert begun.headers["x-penstock-stream"] == stream
        await client.aclose()
        client = await running.connect()
        await until(lambda: service.kept.look(stream, "tests").position == 3)
        status = await client.get(f"/v1/streams/{stream}/status")
        assert (status.json["status"], status.json["completion_tokens"]) == ("running", 2)
        goes_on.set()
        await until(lambda: service.open_responses == 0)
        assert (await client.get(f"/v1/streams/{stream}/status")).json["status"] == "ended"
        found = await client.get(f"/v1/streams/{stream}")
        text = text_of(found) if body is STREAM else found.json["choices"][0]["message"]["content"]
        assert text == "Hello, you"
        assert len(service.requests) == 1


async def test_what_runs_in_the_background_is_ended_by_delete() -> None:
    service = FakeService(lambda _: [*answer("a")[:2], trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        stream = (await client.request(CHAT_PATH, CHAT, headers=BACKGROUND)).json["id"]
        await until(lambda: service.open_responses == 1)
        await client.send(f"DELETE /v1/streams/{stream} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        response = await client.response()
        assert (response.status, response.json) == (200, {"id": stream, "object": "penstock.answer", "deleted": True})
        await until(lambda: service.open_responses == 0)
        for path in ("", "/status"):
            gone = await client.get(f"/v1/streams/{stream}{path}")
            assert (gone.status, gone.error["code"]) == (404, "answer_not_kept")


async def test_only_its_tenant_sees_and_ends_what_runs_in_the_background() -> None:
    service = FakeService(lambda _: answer(*PIECES))
    async with gateway(service) as running:
        client = await running.connect()
        ours = BACKGROUND + "Authorization: Bearer us\r\n"
        stream = (await client.request(CHAT_PATH, CHAT, headers=ours)).json["id"]
        for method, path in (("GET", ""), ("GET", "/status"), ("DELETE", "")):
            head = (
                f"{method} /v1/streams/{stream}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer them\r\n\r\n"
            )
            await client.send(head.encode())
            assert (await client.response()).status == 404
        assert (await client.get(f"/v1/streams/{stream}", headers="Authorization: Bearer us\r\n")).status == 200


async def test_a_refusal_in_the_background_is_found_later() -> None:
    service = FakeService(lambda _: [Unavailable("engine_failed", "No rung could serve.", 2.0)])
    async with gateway(service) as running:
        client = await running.connect()
        begun = await client.request(CHAT_PATH, CHAT, headers=BACKGROUND + key("k"))
        assert begun.status == 202
        await until(lambda: service.kept.look(begun.json["id"], "tests").ended)
        status = (await client.get(f"/v1/streams/{begun.json['id']}/status")).json
        assert (status["status"], status["error"]["code"]) == ("failed", "engine_failed")
        assert (await client.get(f"/v1/streams/{begun.json['id']}")).status == 503
        service.script = lambda _: answer("fine")
        again = await client.request(CHAT_PATH, CHAT, headers=BACKGROUND + key("k"))
        assert again.json["id"] != begun.json["id"]


async def test_a_tenant_s_background_is_bounded_and_a_retry_attaches() -> None:
    service = FakeService(lambda _: [trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        ids = [(await client.request(CHAT_PATH, CHAT, headers=BACKGROUND + key(str(n)))).json["id"] for n in range(16)]
        again = await client.request(CHAT_PATH, CHAT, headers=BACKGROUND + key("3"))
        assert (again.json["id"], again.headers["idempotent-replayed"]) == (ids[3], "true")
        refused = await client.request(CHAT_PATH, CHAT, headers=BACKGROUND)
        assert (refused.status, refused.error["code"]) == (429, "too_many_in_background")
        assert (await client.request(CHAT_PATH, CHAT, headers=BACKGROUND + "Authorization: Bearer b\r\n")).status == 202


async def test_without_room_nothing_begins_in_the_background() -> None:
    service = FakeService()
    async with gateway(service) as running:
        service.kept.keep_s = 0.0
        client = await running.connect()
        refused = await client.request(CHAT_PATH, CHAT, headers=BACKGROUND)
        assert (refused.status, refused.error["code"]) == (503, "no_room_to_keep")
        assert service.requests == []
