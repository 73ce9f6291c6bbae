"""The bytes of the scripted upstream, prepared: events as vLLM sends them, each as one chunk, and whole answers."""

from functools import cache

from benchmarks.upstream.load.pieces import PIECE

MODEL = "chat"
_ENDINGS = ("", "s", ",", ".")
"""Of the pieces, in turn: some gateways end a stream that repeats one text for long."""
_TEXTS = [PIECE.decode() + ending for ending in _ENDINGS]
_ID = '"id":"chatcmpl-8d3f0a5b7c1e4f6a9b2d3c4e5f607182"'
_CHUNK = f'{_ID},"object":"chat.completion.chunk","created":1700000000,"model":"{MODEL}"'


def _event(data: str) -> bytes:
    line = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(line), line)


def _choice(delta: str, finish: str) -> bytes:
    return _event(
        f'{{{_CHUNK},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish},"token_ids":null}}]}}'
    )


def _usage(prompt_tokens: int, tokens: int) -> str:
    total = prompt_tokens + tokens
    counts = f'"prompt_tokens":{prompt_tokens},"total_tokens":{total},"completion_tokens":{tokens}'
    return f'"usage":{{{counts},"prompt_tokens_details":null}}'


BEGIN = (
    b"HTTP/1.1 200 OK\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
) + _choice('{"role":"assistant","content":""}', "null")
"""The head and the event with the role."""

EVENTS = tuple([_choice(f'{{"content":"{text}"}}', "null") for text in _TEXTS])
"""One piece of text each, to be sent in turn."""


def event(place: int) -> bytes:
    """The event at this place of a stream."""
    return EVENTS[place % len(EVENTS)]


_FINISH = _choice('{"content":""}', '"length"')
_DONE = _event("[DONE]") + b"0\r\n\r\n"


@cache
def end(prompt_tokens: int, tokens: int, *, usage: bool) -> bytes:
    """The finish reason, the usage if it was asked for, `[DONE]`, and the end of the body."""
    used = _event(f'{{{_CHUNK},"choices":[],{_usage(prompt_tokens, tokens)}}}') if usage else b""
    return _FINISH + used + _DONE


@cache
def whole(prompt_tokens: int, tokens: int) -> bytes:
    """An answer that is not streamed."""
    content = "".join([_TEXTS[place % len(_TEXTS)] for place in range(tokens)])
    return json_answer(
        f'{{{_ID},"object":"chat.completion","created":1700000000,"model":"{MODEL}","choices":[{{"index":0,"message":'
        f'{{"role":"assistant","content":"{content}","refusal":null,"tool_calls":[],"reasoning_content":null}},'
        f'"logprobs":null,"finish_reason":"length","stop_reason":null}}],{_usage(prompt_tokens, tokens)},'
        '"prompt_logprobs":null}'
    )


def json_answer(text: str, status: str = "200 OK") -> bytes:
    """A response with this JSON."""
    return (
        f"HTTP/1.1 {status}\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\nserver: uvicorn\r\n"
        f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n{text}"
    ).encode()


MODELS = json_answer(
    f'{{"object":"list","data":[{{"id":"{MODEL}","object":"model","created":1700000000,"owned_by":"vllm",'
    f'"root":"{MODEL}","parent":null,"max_model_len":1000000}}]}}'
)
HEALTHY = json_answer("{}")
VERSION = json_answer('{"version":"0.11.0"}')
UNKNOWN = json_answer('{"error":{"message":"not found","type":"NotFoundError","code":404}}', "404 Not Found")
