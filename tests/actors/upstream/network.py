"""Faulty upstreams on memory streams and the test's own clock: real HTTP, no socket.

A server is an async function of one request (`Asked`) that writes raw bytes. Each host of a `Network` has one.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from trio.testing import memory_stream_pair

from actors.upstream.http.address import Address
from actors.upstream.http.errors import ConnectError
from actors.upstream.http.stream import receive_each

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Asked:
    """One request, as the server sees it."""

    stream: trio.abc.Stream
    host: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any]

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def say(self, *texts: str, pause_s: float = 0.0, head: bool = True) -> None:
        """Send the beginning of an answer."""
        if head:
            await self.send(HEAD)
            await self.chunk(event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]))
        for text in texts:
            await trio.sleep(pause_s)
            await self.chunk(event(choices=[self.choice(text)]))

    def choice(self, text: str, reason: str | None = None) -> dict[str, Any]:
        content = {"text": text} if self.target.endswith("/v1/completions") else {"delta": {"content": text}}
        return {"index": 0, **content, "finish_reason": reason}

    async def end(
        self, reason: str = "stop", *, prompt: int = 11, completion: int | None = None, done: bool = True
    ) -> None:
        """Send the end of an answer."""
        await self.chunk(event(choices=[self.choice("", "stop")]))
        if completion is not None:
            await self.chunk(event(choices=[], usage={"prompt_tokens": 11, "completion_tokens": completion}))
        if done:
            await self.chunk(b"data: [DONE]\n\n")
        await self.send(b"0\r\n\r\n")

    async def status(self, status: int, *headers: str, body: bytes = b"{}") -> None:
        lines = [f"HTTP/1.1 {status} No", f"content-length: {len(body)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


Server = Callable[[Asked], Awaitable[None]]


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def says(*texts: str, completion: int | None = None, pause_s: float = 0.0) -> Server:
    """A server without faults."""

    async def serve(asked: Asked) -> None:
        await asked.say(*texts, pause_s=pause_s)
        await asked.end(completion=len(texts) if completion is None else completion)

    return serve


class _Stream:
    """Our side of a connection."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream = stream
        self.send_all = stream.send_all
        self.receive_some = stream.receive_some

    def send_now(self, data: bytes) -> int:
        return 0

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        await receive_each(self, take)

    def has_unread(self) -> bool:
        return False


@dataclass
class Network:
    nursery: trio.Nursery
    servers: dict[str, Server]
    """By host. A host without one refuses connections."""
    asked: list[Asked] = field(default_factory=list)
    open: int = 0
    """Connections that neither side has closed."""
    connect_s: float = 0.0
    refuses: set[str] = field(default_factory=set)
    """Hosts that take no further connection."""

    async def connect(self, address: Address) -> _Stream:
        await trio.sleep(self.connect_s)
        if address.host not in self.servers or address.host in self.refuses:
            raise ConnectError("refused")
        ours, theirs = memory_stream_pair()
        self.open += 1
        self.nursery.start_soon(self._serve, address.host, theirs)
        return _Stream(ours)

    async def _serve(self, host: str, stream: trio.abc.Stream) -> None:
        """Serve one connection until either side closes it; a server that returns keeps it for the next request."""
        data = b""
        scope = trio.CancelScope()
        try:
            with scope:
                while True:
                    while b"\r\n\r\n" not in data:
                        data = await self._more(stream, data)
                    head, data = data.split(b"\r\n\r\n", 1)
                    first, *lines = head.decode().split("\r\n")
                    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                    length = int(headers["content-length"])
                    while len(data) < length:
                        data = await self._more(stream, data)
                    body, data = data[:length], data[length:]
                    asked = Asked(stream, host, first.split(" ")[1], headers, json.loads(body))
                    self.asked.append(asked)
                    async with trio.open_nursery() as nursery:
                        # The client has closed the connection.
                        nursery.start_soon(self._watch, stream, scope)
                        await self.servers[host](asked)
                        nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _watch(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        if not await stream.receive_some(1):
            scope.cancel()

    async def _more(self, stream: trio.abc.Stream, data: bytes) -> bytes:
        got = await stream.receive_some(65536)
        if not got:
            raise EOFError
        return data + got
