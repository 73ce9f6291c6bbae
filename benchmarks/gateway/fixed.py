"""The HTTP server alone: reads each request, and answers with precomputed bytes."""

import trio

from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.gate import Route
from gateway.http.request import Request
from gateway.http.response_head import JSON_TYPE
from gateway.http.server import Server, listen

WHOLE = (
    b'{"id":"chatcmpl-000000000000000000000000","object":"chat.completion","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_000000000000","choices":[{"index":0,"message":{"role":"assistant","content":" token",'
    b'"refusal":null},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":16,"completion_tokens":1,'
    b'"total_tokens":17,"prompt_tokens_details":{"cached_tokens":0}},"penstock":{"route":"bench","rung":"bench",'
    b'"why":"asked_for","attempts":[{"rung":"bench","outcome":"answered","why":"asked_for"}],"mark":null,"margin":null}}'
)
EVENT = (
    b'data: {"id":"chatcmpl-000000000000000000000000","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","system_fingerprint":"fp_000000000000","choices":[{"index":0,"delta":{"content":" token"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)


def fixed_server(step_s: float, silent_tokens: int) -> Server:
    """Streams send one event every `step_s`, without pause if 0; `silent_tokens` gets one event only."""

    async def answer(connection: Connection, request: Request) -> None:
        tokens = int(request.query or b"0")
        if not tokens:
            await connection.respond(200, JSON_TYPE, WHOLE)
            return
        connection.watch()
        stream = connection.event_stream(request, b"")
        now = trio.current_time()
        await stream.send(EVENT, now)
        if tokens == silent_tokens:
            await trio.sleep_forever()
        for number in range(1, tokens):
            if step_s:
                await trio.sleep_until(now + number * step_s)
            await stream.send(EVENT, now)
        await stream.send(b"data: [DONE]\n\n", now, last=True)

    route = Route(answer, body=True)
    return Server(listen("127.0.0.1", 0), ServerLimits(max_connections=5000, messages_per_s=1_000_000), lambda _: route)
