"""Upstreams that speak a known answer, go on with one that was begun, and fail where a case says so."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from tests.actors.upstream.network import HEAD, Asked, Server, event
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.fault_table.scene import PROMPT_TOKENS, TEXT, Scene

PAUSE_S = 0.1
_TOKENIZER = byte_level_tokenizer()
PIECES = tuple([_TOKENIZER.decode([each]) for each in _TOKENIZER.encode(TEXT)])
"""Of the text, a token each."""
Delta = dict[str, Any]
"""A `choices[0]` without its index."""


def text_deltas(pieces: Sequence[str] = PIECES) -> list[Delta]:
    return [{"delta": {"content": piece}} for piece in pieces]


def answers(deltas: Sequence[Delta] | None = None, *, reason: str = "stop") -> Server:
    """The whole answer; or the rest, if its beginning is in the request as the assistant's last message."""

    async def serve(asked: Asked) -> None:
        rest = _rest(asked, deltas)
        await begin(asked, rest)
        await end(asked, reason=reason, completion=len(rest) + 1)

    return serve


def _rest(asked: Asked, deltas: Sequence[Delta] | None) -> list[Delta]:
    last = (asked.body.get("messages") or [{"role": "user"}])[-1]
    shown = last["content"] if last["role"] == "assistant" else ""
    left = list(text_deltas() if deltas is None else deltas)
    while shown:
        piece = left.pop(0)["delta"]["content"]
        assert shown.startswith(piece), "it is asked to go on with another answer"
        shown = shown.removeprefix(piece)
    return left


async def begin(asked: Asked, deltas: Sequence[Delta], *, pause_s: float = PAUSE_S, head: bool = True) -> None:
    if head:
        await asked.send(HEAD)
    for delta in deltas:
        await trio.sleep(pause_s)
        await asked.chunk(event(choices=[{"index": 0, "finish_reason": None, **delta}]))


async def end(
    asked: Asked, *, reason: str | None = "stop", completion: int = 1, done: bool = True, whole: bool = True
) -> None:
    """`reason` None: without an end of the choice; `whole` False: without the end of the body."""
    if reason is not None:
        await asked.chunk(event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}]))
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": completion}
        await asked.chunk(event(choices=[], usage=usage))
    if done:
        await asked.chunk(b"data: [DONE]\n\n")
    if whole:
        await asked.send(b"0\r\n\r\n")


async def closes(asked: Asked) -> None:
    """The connection is lost."""
    await asked.stream.aclose()


async def says_nothing(asked: Asked) -> None:
    await trio.sleep_forever()


Then = Callable[[Asked], Awaitable[None]]


def fails_after(here: Scene, pieces: int, then: Then, deltas: Sequence[Delta] | None = None) -> Server:
    """So many pieces of the answer, and then something else; -1: not even the head of a response."""

    async def serve(asked: Asked) -> None:
        if pieces >= 0:
            await begin(asked, _rest(asked, deltas)[:pieces])
            await trio.sleep(PAUSE_S)
        here.struck()
        await then(asked)

    return serve


def status(code: int, *headers: str, body: bytes = b"{}") -> Then:
    async def respond(asked: Asked) -> None:
        await asked.status(code, *headers, body=body)

    return respond


def first(*servers: Server) -> Server:
    """One for each request, the last for all further ones."""
    left = list(servers)

    async def serve(asked: Asked) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked)

    return serve
