"""A server on a real socket that does what its script says: well, or wrong in one named way."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

Script = Callable[["Conversation"], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def event(data: object, number: int | None = None) -> bytes:
    line = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    named = "" if number is None else f"id: {number}\n"
    return f"{named}data: {line}\n\n".encode()


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


FINISH = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def usage(tokens: int, prompt: int = 7) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return {"id": "c1", "choices": [], "usage": counts}


def events(count: int = 3) -> list[object]:
    """Of a stream as it should be."""
    return [*[said(f"w{place} ") for place in range(count)], FINISH, usage(count), "[DONE]"]


class Conversation:
    """One request of a client."""

    def __init__(self, stream: trio.SocketStream, head: bytes, body: bytes, number: int) -> None:
        self.stream = stream
        self.target = head.split(b" ")[1].decode()
        self.headers = {
            name.decode().lower(): value.strip().decode()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        self.body: dict[str, Any] = json.loads(body) if body else {}
        self.number = number
        """From 1, over all connections."""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def begin(self, more: bytes = b"") -> None:
        await self.send(HEAD + more + b"\r\n")

    async def stream_events(self, what: list[object], *, end: bool = True) -> None:
        await self.begin()
        for each in what:
            await self.send(chunk(event(each)))
        if end:
            await self.send(b"0\r\n\r\n")

    async def answer(self, value: object, status: str = "200 OK", more: str = "") -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        await self.send(head.encode() + body)


class ScriptedServer:
    """`asked` has the requests so far."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Conversation] = []
        self.connections = 0
        self.url = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    data = await stream.receive_some()
                    if not data:
                        return
                    received += data
                head, _, received = received.partition(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                while len(received) < length:
                    received += await stream.receive_some()
                conversation = Conversation(stream, head, received[:length], len(self.asked) + 1)
                received = received[length:]
                self.asked.append(conversation)
                await self.script(conversation)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(script)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()
