"""The clients of `penstock engine profile`, in a process of their own: `python -m gateway.profiling.load_client PORT`.

Reads `Phase`s as a JSON list on standard input, runs one after the other, and prints the number of answers. Each
worker sends one request after the other and reads the answer as a stream, so that prefills, decodes, arrivals and
ends mix as they do in service.
"""

import sys
from random import Random

import msgspec
import trio

_WORDS = ("seven", "plus", "nine", "the", "sum", "of", "list", "sort", "name", "what", "is", "count", "letters", "city")
_LENGTHS = (2, 8, 30, 110)
"""Lengths of prompts, in words."""
_TOKENS = (8, 40, 100, 200)
"""Lengths of answers."""


class Phase(msgspec.Struct, frozen=True):
    """A number of workers for each model, for a duration."""

    workers: dict[str, int]
    seconds: float
    pause_s: float = 0.0
    """Longest pause between two requests of a worker."""


async def play(port: int, phases: list[Phase]) -> int:
    """Run the phases; returns how many answers were read to their end."""
    read = 0

    async def work(model: str, phase: Phase, seed: str) -> None:
        nonlocal read
        rng = Random(seed)  # noqa: S311  (not for secrets)
        until = trio.current_time() + phase.seconds
        while trio.current_time() < until:
            text = " ".join(rng.choice(_WORDS) for _ in range(rng.choice(_LENGTHS)))
            read += await send_request(port, model, text, rng.choice(_TOKENS))
            await trio.sleep(rng.uniform(0, phase.pause_s))

    for number, phase in enumerate(phases):
        async with trio.open_nursery() as nursery:
            for model, workers in phase.workers.items():
                for worker in range(workers):
                    nursery.start_soon(work, model, phase, f"{number} {model} {worker}")
    return read


async def send_request(port: int, model: str, text: str, tokens: int) -> bool:
    """Send one request and read its stream. Returns whether the stream was complete."""
    body = msgspec.json.encode(
        {
            "model": model,
            "stream": True,
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "messages": [{"role": "user", "content": text}],
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    last = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(head.encode() + body)
        while piece := await connection.receive_some(65536):
            last = (last + piece)[-200:]
    return b"[DONE]" in last


def main() -> int:
    """Run the phases of standard input."""
    phases = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Phase])
    sys.stdout.write(f"{trio.run(play, int(sys.argv[1]), phases)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
