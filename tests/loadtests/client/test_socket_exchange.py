"""Against the server's side of wsproto: the WebSocket's messages and what can be wrong with them."""

import json

import pytest
import wsproto
import wsproto.events as ws

from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.socket_exchange import SocketExchange

STARTED = {"type": "started", "id": "1", "rung": "small", "prompt_tokens": 5}
USAGE = {"type": "usage", "id": "1", "prompt_tokens": 5, "completion_tokens": 2}
DONE = {"type": "done", "id": "1", "penstock": {"rung": "large", "attempts": [{"rung": "s", "outcome": "escalated"}]}}


def token(text: str, finish: str | None = None) -> dict[str, object]:
    return {"type": "token", "id": "1", "index": 0, "text": text, "finish_reason": finish}


def talk(messages: list[object], then: ws.Event | None = None) -> Answer:
    answer = Answer(keep_text=True)
    pongs: list[bytes] = []
    exchange = SocketExchange(answer, stop=lambda: False, send=pongs.append)
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(exchange.handshake("host", "/v1/stream", b"authorization: Bearer k\r\n"))
    (request,) = server.events()
    assert isinstance(request, ws.Request)
    assert dict(request.extra_headers)[b"authorization"] == b"Bearer k"
    assert not exchange.take(server.send(ws.AcceptConnection()), 0.0)
    assert exchange.accepted
    server.receive_data(exchange.message(b'{"type":"start"}'))
    data = server.send(ws.Ping())
    for message in messages:
        data += server.send(ws.TextMessage(message if isinstance(message, str) else json.dumps(message)))
    if then is not None:
        data += server.send(then)
    for place in range(len(data)):
        if not exchange.take(data[place : place + 1], 1.0):
            break
    else:
        exchange.take(b"", 2.0)
    assert pongs
    return answer


def test_a_whole_answer() -> None:
    answer = talk([STARTED, token("a"), token("b"), token("", "stop"), USAGE, DONE])
    assert answer.complete
    assert ("".join(answer.text), answer.output_tokens, answer.rung, answer.escalated) == ("ab", 2, "large", True)


ERROR = {"type": "error", "id": "1", "error": {"message": "m", "code": "queue_full", "status": 429}}


@pytest.mark.parametrize(
    ("messages", "then", "name"),
    [
        ([STARTED, token("a")], None, failures.TRUNCATED),
        ([STARTED, token("a")], ws.CloseConnection(1001), failures.TRUNCATED),
        ([STARTED, token("a"), DONE], None, failures.NO_FINISH_REASON),
        ([STARTED, token("a", "stop"), token("b"), DONE], None, failures.EARLY_DONE),
        ([STARTED, token("a"), token("b"), token("c", "stop"), USAGE, DONE], None, failures.USAGE_MISMATCH),
        ([ERROR], None, failures.SHED),
        ([STARTED, token("a"), {"type": "error", "error": {"code": "x"}}], None, failures.ERROR_EVENT),
        (["hello"], None, failures.GARBLED),
    ],
)
def test_each_wrong_end_is_named(messages: list[object], then: ws.Event | None, name: str) -> None:
    assert talk(messages, then).failure == name


def test_a_refused_handshake() -> None:
    answer = Answer()
    exchange = SocketExchange(answer, stop=lambda: False, send=print)
    exchange.handshake("host", "/v1/stream", b"")
    body = b'{"error":{"message":"who?","code":"invalid_api_key"}}'
    head = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert not exchange.take(head + body, 0.0)
    assert (answer.failure, answer.status, answer.code) == (failures.REFUSED, 401, "invalid_api_key")


def test_what_is_no_websocket() -> None:
    answer = Answer()
    exchange = SocketExchange(answer, stop=lambda: False, send=print)
    exchange.handshake("host", "/v1/stream", b"")
    assert not exchange.take(b"220 smtp.example\r\n\r\n", 0.0)
    assert answer.failure
