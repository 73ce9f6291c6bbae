"""What is sent: the bytes of one request. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.upstream.http.address import Address
from loadtests.model.scenario import RequestKind

Message = Mapping[str, str]


class PreparedRequest(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    kind: RequestKind
    head: bytes
    """The request line and the headers; for a WebSocket, header lines of its handshake alone."""
    body: bytes
    max_tokens: int
    model: str


def chat_messages(system: str, history: Sequence[Message], text: str) -> list[Message]:
    """All messages of a turn."""
    first: list[Message] = [{"role": "system", "content": system}] if system else []
    return [*first, *history, {"role": "user", "content": text}]


def prepared(  # noqa: PLR0917
    kind: RequestKind,
    model: str,
    messages: Sequence[Message],
    max_tokens: int,
    address: Address,
    headers: bytes,
    *,
    max_tokens_field: str = "max_tokens",
) -> PreparedRequest:
    """`headers`: lines beside Host and those about the body. `max_tokens_field`: its name in chats."""
    fields: dict[str, Any] = {"model": model}
    if kind.endpoint == "chat":
        fields |= {max_tokens_field: max_tokens, "messages": messages}
    else:
        fields |= {"max_tokens": max_tokens, "prompt": "\n".join([message["content"] for message in messages])}
    if kind.ignore_eos:
        fields["ignore_eos"] = True
    fields |= kind.body
    if kind.transport == "websocket":
        start = {
            "type": "start",
            "id": "1",
            "endpoint": "chat.completions" if kind.endpoint == "chat" else "completions",
        }
        return PreparedRequest(kind, headers, msgspec.json.encode(start | fields), max_tokens, model)
    if kind.transport == "sse":
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    body = msgspec.json.encode(fields)
    head = b"POST %b HTTP/1.1\r\nHost: %b\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        address.target.encode(),
        address.authority.encode(),
        headers,
        len(body),
    )
    return PreparedRequest(kind, head, body, max_tokens, model)


def header_lines(key: str | None, *tables: Mapping[str, str]) -> bytes:
    """The header lines of requests; in `tables` the later ones take precedence."""
    headers = {"user-agent": "penstock-load", "accept": "*/*"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    for table in tables:
        headers |= {name.lower(): value for name, value in table.items()}
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


def resuming(address: Address, stream_id: str, after: int, headers: bytes) -> bytes:
    """The request for the rest of a kept stream, after the event of this number."""
    target = address.target.removesuffix("/chat/completions").removesuffix("/completions") + f"/streams/{stream_id}"
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%bLast-Event-ID: %d\r\n\r\n" % (
        target.encode(),
        address.authority.encode(),
        headers,
        after,
    )
