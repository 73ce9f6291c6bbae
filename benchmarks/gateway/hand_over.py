"""From an engine's thread to the event loop: python -m benchmarks.gateway.hand_over [--steps N] [--rounds N].

A thread posts the time every half millisecond, without computing in between; the event loop notes when it sees it. In
turns: `ThreadBridge`; `trio.TrioToken.run_sync_soon`, which is trio's own way; and `ProcessBridge`, where a process
posts a report of `_SEQUENCES` tokens, which the event loop decodes. CPU is of the event loop's thread.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

import msgspec
import trio

from actors.kernel.process_bridge import ProcessBridge
from actors.kernel.spare_processes import start_process
from actors.kernel.thread_bridge import ThreadBridge
from engine.core.loop import Stop
from engine.frames import frame
from engine.hosting.wire import decode_report
from engine.messages import EngineStats, StepReport, TokenDelta

_STEP_S = 0.0005
_SEQUENCES = 16
_JOIN_S = 10.0
_WAYS = ("bridge", "run_sync_soon", "process")
_POSTS = "import benchmarks.gateway.hand_over as it; it.post_reports({steps})"


class HandOver(msgspec.Struct, frozen=True):
    """Microseconds a step."""

    median: float
    p99: float
    cpu: float


async def measure(way: str, steps: int) -> HandOver:
    """`steps` hand-overs of one way."""
    late: list[float] = []
    done, began = trio.Event(), trio.Event()
    process: ProcessBridge[msgspec.Struct, float] | None = None

    def on_posts(posts: list[float]) -> None:
        now = time.perf_counter()
        began.set()
        late.extend([now - post for post in posts])
        if len(late) >= steps:
            done.set()

    def body(post: Callable[[float], None]) -> None:
        for _ in range(steps):
            time.sleep(_STEP_S)
            post(time.perf_counter())

    cpu_s = time.thread_time()
    if way == "bridge":
        ThreadBridge("bench", lambda _, post: body(post), on_posts)
    elif way == "process":
        process = _process(steps, on_posts)
        await began.wait()
        cpu_s = time.thread_time()
    else:
        _by_token(body, on_posts)
    await done.wait()
    cpu_s = time.thread_time() - cpu_s
    if process is not None:
        process.abandon()
        process.send(Stop())
        await process.join(_JOIN_S)
    late.sort()
    return HandOver(1e6 * statistics.median(late), 1e6 * late[steps * 99 // 100], 1e6 * cpu_s / steps)


def post_reports(steps: int) -> None:
    """In a process of its own. Its clock is this one's (Linux: the time since the start of the machine)."""
    deltas = tuple([TokenDelta(number, (number,), " word", (1.5,)) for number in range(_SEQUENCES)])
    for _ in range(steps):
        time.sleep(_STEP_S)
        stats = EngineStats(1024, 512, 128, _SEQUENCES, 0, 9000, step_s=time.perf_counter())
        sys.stdout.buffer.write(frame(StepReport(deltas, stats)))
        sys.stdout.buffer.flush()
    sys.stdin.buffer.read(1)


def _process(steps: int, on_posts: Callable[[list[float]], None]) -> ProcessBridge[msgspec.Struct, float]:
    def decode(body: bytes) -> float:
        report = decode_report(body)
        assert isinstance(report, StepReport)
        return report.stats.step_s

    command = (sys.executable, "-c", _POSTS.format(steps=steps))
    process = start_process(command)
    return ProcessBridge("bench", process, b"", encode=frame, decode=decode, lost=lambda _: 0.0, on_posts=on_posts)


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
