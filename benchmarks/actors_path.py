"""What the actors cost a request and a token, without the edge: python -m benchmarks.actors_path [--profile].

A service with all its actors in front of a fake engine, asked by tasks in the same loop. The figures are processor
seconds of the event loop's thread; the fake engine's thread is not counted.
"""

import argparse
import cProfile
import logging
import pstats
import time
from collections.abc import Awaitable, Callable

import structlog
import trio

from actors.api.request import ChatMessage, ChatPrompt, InferenceRequest, ParsedBody
from actors.api.response import Delta
from actors.service import Service
from benchmarks.gateway.service import start_service
from engine.sampling.params import SamplingParams

_PROMPT = (ChatPrompt((ChatMessage("user", "What is 17 + 25?"),)),)
_NEVER = 1 << 29
Load = Callable[[Service], Awaitable[int]]


async def _ask(service: Service, number: int, max_tokens: int, *, streamed: bool) -> int:
    request = InferenceRequest(
        request_id=f"bench-{number}",
        body=ParsedBody(
            model="bench", prompts=_PROMPT, params=SamplingParams(max_tokens=max_tokens), streamed=streamed
        ),
        arrived_at=trio.current_time(),
    )
    response = await service.open(request)
    tokens = 0
    try:
        while batch := await response.next_events():
            tokens += sum(len(event.token_ids) for event in batch if type(event) is Delta)
    finally:
        response.close()
    return tokens


async def _many(service: Service, *, clients: int, requests: int, tokens: int, streamed: bool) -> int:
    """Tokens that came."""
    total = 0

    async def client(first: int) -> None:
        nonlocal total
        for number in range(requests):
            count = await _ask(service, first + number, tokens, streamed=streamed)
            total += count

    async with trio.open_nursery() as nursery:
        for index in range(clients):
            nursery.start_soon(client, index * requests)
    return total


async def _measure(name: str, service: Service, load: Load, profile: cProfile.Profile | None, only: str) -> None:
    if only not in name:
        return
    started, used = time.perf_counter(), time.thread_time()
    if profile is not None:
        profile.enable()
    count = await load(service)
    if profile is not None:
        profile.disable()
    took, used = time.perf_counter() - started, time.thread_time() - used
    print(f"{name:40} {count / took:10,.0f} /s {used / count * 1e6:8.1f} µs of the loop's CPU each")


async def _main(arguments: argparse.Namespace) -> None:
    requests, tokens = arguments.requests, arguments.tokens
    profile = cProfile.Profile() if arguments.profile else None
    async with trio.open_nursery() as nursery:
        service = await start_service(nursery, 0.0, _NEVER)
        for clients in (1, 32):
            for streamed in (False, True):

                async def small(service: Service, clients: int = clients, streamed: bool = streamed) -> int:
                    return await _many(
                        service, clients=clients, requests=requests // clients, tokens=1, streamed=streamed
                    )

                what = "streamed" if streamed else "whole"
                await _measure(
                    f"one-token requests, {what}, {clients} clients", service, small, profile, arguments.only
                )
        for clients in (1, 32, 200):

            async def streams(service: Service, clients: int = clients) -> int:
                return await _many(service, clients=clients, requests=1, tokens=tokens // clients, streamed=True)

            await _measure(f"tokens, {clients} streams", service, streams, profile, arguments.only)
        nursery.cancel_scope.cancel()
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    # Lines of requests would cost more than what is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--requests", type=int, default=4000, help="of one measurement")
    parser.add_argument("--tokens", type=int, default=60_000, help="of one measurement")
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    trio.run(_main, parser.parse_args())
