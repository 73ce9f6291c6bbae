"""What a client sees of one request, whatever transport it came over, and when."""

import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import trio
from trio_websocket import ConnectionClosed

from tests.gateway.harness import Client, Gateway, Socket, connected

Transport = Literal["SSE", "WebSocket", "whole"]
TRANSPORTS: tuple[Transport, ...] = ("SSE", "WebSocket", "whole")
CHAT_PATH = "/v1/chat/completions"


@dataclass
class SeenChoice:
    """One choice, its pieces put together."""

    text: str = ""
    logprobs: list[Any] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Name and arguments, by index."""
    reason: str | None = None


@dataclass
class Seen:
    """Everything that a client can tell of its request."""

    transport: Transport
    status: int | None = None
    error: str = ""
    """The code of the error that ended it."""
    retry_after: str = ""
    request_id: str = ""
    last_id: int = 0
    """The number of the last event that came, where events have numbers."""
    choices: dict[int, SeenChoice] = field(default_factory=dict)
    pieces: int = 0
    """Events with content."""
    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the answer."""
    done: bool = False
    lost: bool = False
    """The connection ended without an end of the answer."""
    left: bool = False
    """The client went away."""
    on_piece: Callable[["Seen"], None] | None = None
    ended: int = 0
    """Ends that came: more than one would be a doubled answer."""

    def content(self) -> dict[int, Any]:
        """What must not depend on faults: all that was said, but not in which pieces."""
        return {
            index: (each.text, each.logprobs, [tuple(call) for _, call in sorted(each.calls.items())], each.reason)
            for index, each in sorted(self.choices.items())
        }

    def take(self, index: int, said: dict[str, Any], logprobs: Any, reason: str | None) -> None:
        """One piece of a choice."""
        choice = self.choices.setdefault(index, SeenChoice())
        choice.text += said.get("content") or ""
        # A WebSocket's messages have the list itself.
        choice.logprobs += (logprobs.get("content") if isinstance(logprobs, dict) else logprobs) or []
        for number, call in enumerate(said.get("tool_calls") or ()):
            name, arguments = call["function"].get("name") or "", call["function"].get("arguments") or ""
            known = choice.calls.setdefault(call.get("index", number), ["", ""])
            known[0] += name
            known[1] += arguments
        if reason is not None:
            assert choice.reason is None, "a choice ended twice"
            choice.reason = reason
        if said.get("content") or said.get("tool_calls") or reason is not None:
            self.pieces += 1
            if self.on_piece is not None:
                self.on_piece(self)

    def fail(self, error: dict[str, Any]) -> None:
        self.error = error["code"]
        self.ended += 1

    def finish(self) -> None:
        self.done = True
        self.ended += 1

    def count(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.usage = usage["prompt_tokens"], usage["completion_tokens"]


class Left(Exception):  # noqa: N818
    """The client goes away now; raised by `Seen.on_piece`."""


async def ask(
    running: Gateway,
    transport: Transport,
    body: dict[str, Any],
    *,
    seen: Seen | None = None,
    headers: str = "",
    receive_buffer: int | None = None,
) -> Seen:
    """One request, read to its end. `seen.on_piece` may raise `Left`."""
    seen = seen or Seen(transport)
    try:
        if transport == "WebSocket":
            await _ask_socket(running, body, seen)
        else:
            client = await running.connect(receive_buffer=receive_buffer)
            try:
                if transport == "SSE":
                    await _ask_stream(client, body, seen, headers)
                else:
                    await _ask_whole(client, body, seen, headers)
            finally:
                await client.aclose()
    except* Left:
        seen.left = True
    except* (EOFError, trio.BrokenResourceError, ConnectionClosed):
        seen.lost = True
    return seen


async def _ask_whole(client: Client, body: dict[str, Any], seen: Seen, headers: str) -> None:
    response = await client.request(CHAT_PATH, {**body, "stream": False}, headers=headers)
    seen.status = response.status
    seen.request_id = response.headers.get("x-request-id", "")
    seen.retry_after = response.headers.get("retry-after", "")
    if response.status != 200:
        seen.fail(response.error)
        return
    for choice in response.json["choices"]:
        seen.take(choice["index"], choice["message"], choice.get("logprobs"), choice["finish_reason"])
    seen.count(response.json["usage"])
    seen.finish()


async def _ask_stream(client: Client, body: dict[str, Any], seen: Seen, headers: str) -> None:
    await client.post(CHAT_PATH, {**body, "stream": True, "stream_options": {"include_usage": True}}, headers=headers)
    seen.status, found = await client.head()
    seen.request_id = found.get("x-request-id", "")
    seen.retry_after = found.get("retry-after", "")
    if seen.status != 200:
        size = int(found["content-length"])
        while len(client.buffer) < size:
            await client.more()
        seen.fail(json.loads(client.buffer)["error"])
        return
    async with aclosing(client.chunks()) as chunks:
        async for chunk in chunks:
            read_events(chunk, seen)


def read_events(chunk: bytes, seen: Seen) -> None:
    """Whole server-sent events."""
    for block in chunk.decode().split("\n\n"):
        number, _, data = block.rpartition("data: ")
        if not block or block.startswith(":"):
            continue
        if number.startswith("id: "):
            seen.last_id = int(number[4:])
        if data == "[DONE]":
            seen.finish()
            continue
        event = json.loads(data)
        if "error" in event:
            seen.fail(event["error"])
            continue
        seen.count(event.get("usage"))
        for choice in event["choices"]:
            seen.take(choice["index"], choice["delta"], choice.get("logprobs"), choice["finish_reason"])


async def _ask_socket(running: Gateway, body: dict[str, Any], seen: Seen) -> None:
    async with connected(running) as socket:
        await socket.send({"type": "start", "id": "a", **body})
        try:
            await _read_socket(socket, seen)
        except Left:
            # Within the block, so that the connection is closed.
            seen.left = True


async def _read_socket(socket: Socket, seen: Seen) -> None:
    while not seen.ended:
        message = await socket.get()
        match message["type"]:
            case "started":
                seen.status = 200
                seen.request_id = message["request_id"]
            case "token":
                said = {"content": message["text"], "tool_calls": message.get("tool_calls")}
                seen.take(message["index"], said, message.get("logprobs"), message["finish_reason"])
            case "usage":
                seen.count(message)
            case "done":
                seen.finish()
            case "error":
                seen.status = seen.status or message["error"]["status"]
                wait_s = message["error"]["retry_after_s"]
                seen.retry_after = "" if wait_s is None else f"{wait_s:g}"
                seen.fail(message["error"])
