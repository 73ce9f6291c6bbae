"""From an engine's thread to the event loop: python -m benchmarks.gateway.hand_over [--steps N] [--rounds N].

A thread posts the time every half millisecond, without computing in between; the event loop notes when it sees it. In
turns: `ThreadBridge`, and `trio.TrioToken.run_sync_soon`, which is trio's own way. CPU is of the event loop's thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

import msgspec
import trio

from actors.kernel.thread_bridge import ThreadBridge

_STEP_S = 0.0005
_WAYS = ("bridge", "run_sync_soon")


class HandOver(msgspec.Struct, frozen=True):
    """Microseconds a step."""

    median: float
    p99: float
    cpu: float


async def measure(way: str, steps: int) -> HandOver:
    """`steps` hand-overs of one way."""
    late: list[float] = []
    done = trio.Event()

    def on_posts(posts: list[float]) -> None:
        now = time.perf_counter()
        late.extend([now - post for post in posts])
        if len(late) == steps:
            done.set()

    def body(post: Callable[[float], None]) -> None:
        for _ in range(steps):
            time.sleep(_STEP_S)
            post(time.perf_counter())

    cpu_s = time.thread_time()
    if way == "bridge":
        ThreadBridge("bench", lambda _, post: body(post), on_posts)
    else:
        _by_token(body, on_posts)
    await done.wait()
    cpu_s = time.thread_time() - cpu_s
    late.sort()
    return HandOver(1e6 * statistics.median(late), 1e6 * late[steps * 99 // 100], 1e6 * cpu_s / steps)


def _by_token(body: Callable[[Callable[[float], None]], None], on_posts: Callable[[list[float]], None]) -> None:
    token, outbox = trio.lowlevel.current_trio_token(), SimpleQueue[float]()

    def deliver() -> None:
        posts = []
        try:
            while True:
                posts.append(outbox.get_nowait())
        except Empty:
            on_posts(posts)

    def post(value: float) -> None:
        outbox.put(value)
        token.run_sync_soon(deliver, idempotent=True)

    Thread(target=body, args=(post,), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.hand_over")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds: dict[str, list[HandOver]] = {way: [] for way in _WAYS}
    for _ in range(arguments.rounds):
        for way in _WAYS:
            rounds[way].append(trio.run(measure, way, arguments.steps))
    print("| µs a step | p50 | p99 | CPU of the loop |\n| --- | ---: | ---: | ---: |")
    for way, found in rounds.items():
        figures = [statistics.median([getattr(each, name) for each in found]) for name in HandOver.__struct_fields__]
        print(f"| {way} | " + " | ".join([f"{figure:.1f}" for figure in figures]) + " |")


if __name__ == "__main__":
    main()
