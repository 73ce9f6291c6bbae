"""Faults of clients: they go at every phase, read nothing, read slowly, or close one half of their connection."""

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fault_table.case import Case
from tests.fault_table.engines import SAYS
from tests.fault_table.scene import Scene, question
from tests.fault_table.seen import CHAT_PATH, Left, Seen
from tests.gateway.harness import connected

GROUP = "client"
LONG = {"ignore_eos": True, "max_tokens": 600, "logprobs": True, "top_logprobs": 20}
"""More bytes than all buffers hold."""
SHORT_S = 0.05
"""Less than a step of the engine."""


async def _raw(here: Scene, stop: str, case: Case) -> Seen:
    """It goes within its own request, or right behind it."""
    assert here.seen is not None
    body = msgspec.json.encode({**question(case.body), "stream": case.transport == "SSE"})
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    client = await here.running.connect()
    sent = {"in its head": head[:30], "in its body": head + body[:20]}.get(stop, head + body)
    await client.send(sent)
    here.struck()
    if stop == "in prefill":
        await trio.sleep(SHORT_S)
    if stop == "half":
        client.stream.socket.shutdown(trio.socket.SHUT_WR)
        await client.ended()
    await client.aclose()
    here.seen.left = True
    return here.seen


def goes(stop: str) -> Callable[[Scene, Case], Any]:
    async def client(here: Scene, case: Case) -> Seen:
        return await _raw(here, stop, case)

    return client


def goes_after(pieces: int) -> Callable[[Scene, Case], Any]:
    """When so many pieces have come."""

    async def client(here: Scene, case: Case) -> Seen:
        def on_piece(seen: Seen) -> None:
            if seen.pieces >= pieces:
                here.struck()
                raise Left

        assert here.seen is not None
        here.seen.on_piece = on_piece
        return await here.ask(case.transport, case.body, seen=here.seen)

    return client


async def _goes_from_the_queue(here: Scene, case: Case) -> Seen:
    """Others have the engine's places."""
    async with trio.open_nursery() as nursery:
        for seed in range(12):
            nursery.start_soon(here.ask, "SSE", {"model": "alone", "ignore_eos": True, "max_tokens": 60, "seed": seed})
        await trio.sleep(1)
        await _raw(here, "in prefill", case)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert here.seen is not None
    return here.seen


async def _goes_while_whole(here: Scene, case: Case) -> Seen:
    with trio.move_on_after(0.45):
        await here.ask("whole", case.body)
    here.struck()
    assert here.seen is not None
    here.seen.left = True
    return here.seen


async def _reads_nothing(here: Scene, case: Case) -> Seen:
    """The connection stays open."""
    client = await here.running.connect(receive_buffer=4096)
    await client.post(CHAT_PATH, {**question(case.body), "stream": True})
    here.struck()
    await trio.sleep(120)
    assert here.seen is not None
    here.seen.left = True
    await client.aclose()
    return here.seen


async def _reads_slowly(here: Scene, case: Case) -> Seen:
    """A pause of 2 s after each piece, in which several more are made."""
    assert here.seen is not None
    here.struck()
    async with connected(here.running) as socket:
        await socket.send({"type": "start", "id": "a", **question(case.body)})
        while not here.seen.ended:
            message = await socket.get()
            if message["type"] == "token":
                here.seen.take(message["index"], {"content": message["text"]}, None, message["finish_reason"])
            if message["type"] == "usage":
                here.seen.count(message)
            if message["type"] == "done":
                here.seen.finish()
            if message["type"] == "started":
                here.seen.status, here.seen.request_id = 200, message["request_id"]
            await trio.sleep(2)
    return here.seen


async def _cancels(here: Scene, case: Case) -> Seen:
    """By a message; the connection stays."""
    seen = here.seen
    assert seen is not None
    async with connected(here.running) as socket:
        await socket.send({"type": "start", "id": "a", **question(case.body)})
        for message in await socket.until("token"):
            if message["type"] == "token":
                seen.take(message["index"], {"content": message["text"]}, None, None)
            else:
                seen.status = 200
        here.struck()
        await socket.send({"type": "cancel", "id": "a"})
        seen.fail((await socket.until("error"))[-1]["error"])
    return seen


def case(what: str, client: Callable[[Scene, Case], Any], **more: Any) -> Case:
    given = {"body": {"model": "small"}, "scripts": SAYS, **more}
    return Case(GROUP, what, lambda _: None, client=client, **given)


CLIENTS = [
    case("goes within the head of its request", goes("in its head")),
    case("goes within the body of its request", goes("in its body")),
    case("goes as soon as the request is sent", goes("at once")),
    case("goes as soon as the request is sent", goes("at once"), transport="whole"),
    case("goes from the queue", _goes_from_the_queue, settles_s=30.0),
    case("goes during prefill", goes("in prefill")),
    case("goes during prefill", goes("in prefill"), transport="whole"),
    case("goes after the first token", goes_after(1)),
    case("goes after the first token", goes_after(1), transport="WebSocket"),
    case("goes after 3 tokens", goes_after(3)),
    case("goes after 3 tokens, of 4 answers", goes_after(12), body={"model": "small", "n": 4}, asked="n = 4"),
    case("goes when four tokens are made", _goes_while_whole, transport="whole"),
    case("goes while a cascade decides", goes("in prefill"), body={"model": "both"}, asked="cascade"),
    case("goes while drafts are verified", goes_after(1), body={"model": "checked"}, asked="cascade, verified"),
    case("cancels by a message after the first token", _cancels, transport="WebSocket"),
    case("closes its half of the connection behind the request", goes("half")),
    case(
        "reads nothing of a long answer",
        _reads_nothing,
        body={"model": "small", **LONG},
        scripts={},
        limits={"write_stall_s": 20.0},
        workers={"step_s": 0.02},
        asked="600 tokens with log-probabilities",
    ),
    case("pauses for 2 s after each piece", _reads_slowly, transport="WebSocket"),
]
