"""Prototype of several gateway processes with one owner of the shared state: python -m benchmarks.gateway.workers.

A state process owns the real books (quotas, budgets, one backend's fair queue). Workers keep requests in flight: each
asks the state process for a grant and a start, computes `--work-us` as the rest of a request does, and reports its end.
All messages that a worker has at hand go in one frame of MessagePack over a Unix socket; so do the answers.

The figures: requests/s, the state process's CPU for a request, which bounds how many workers it can serve, and how long
a grant takes. At the end the books must be even: nothing reserved, nothing queued, and as many settled as granted.
"""

import argparse
import multiprocessing
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from config.model.tenancy import Budget, TenantSettings, TierSettings, TokenQuota
from policies.admission.budget import BudgetBook, Grant, set_aside
from policies.admission.quota import QuotaBook
from policies.queueing.backend_queue import BackendJob, BackendQueue, StartOn
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity

_TENANTS = {
    f"tenant-{number}": TenantSettings(
        tokens=TokenQuota(per_minute=1 << 40), budget=Budget(amount=1e9), concurrent=1 << 20
    )
    for number in range(8)
}
_NAMES = list(_TENANTS)
_TOKENS, _COST = 400, 0.001
_PLACES = 1 << 16
_HEAD = struct.Struct("<I")
_READ_BYTES = 1 << 16

Message = tuple[int, str, int]
"""(number, tenant, tokens used): a request for a grant if the tokens are -1, else its settlement."""
_encoder = msgspec.msgpack.Encoder()
_messages = msgspec.msgpack.Decoder(list[Message])
_numbers = msgspec.msgpack.Decoder(list[int])


class Job(BackendJob, frozen=True, kw_only=True):
    """A call of an upstream: one place, no KV blocks."""

    @property
    def sequence_count(self) -> int:
        return 1

    @property
    def prompt_lengths(self) -> list[int]:
        return []


class Figures(msgspec.Struct, frozen=True):
    """Of one number of workers."""

    workers: int
    requests_per_s: float
    state_cpu_us: float
    """A request, in the state process."""
    grant_ms: list[float]
    """p50 and p99."""


class Frames:
    """Length-prefixed frames of one stream socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def receive(self) -> bytes | None:
        """The next frame; None: the peer has closed."""
        while len(self._data) < _HEAD.size or len(self._data) < _HEAD.size + self._length():
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                return None
            self._data += data
        end = _HEAD.size + self._length()
        frame = bytes(self._data[_HEAD.size : end])
        del self._data[:end]
        return frame

    async def send(self, payload: bytes) -> None:
        await self._stream.send_all(_HEAD.pack(len(payload)) + payload)

    def _length(self) -> int:
        length: int = _HEAD.unpack_from(self._data)[0]
        return length


class State:
    """The books, and what the workers' messages do to them."""

    def __init__(self) -> None:
        tiers = {"default": TierSettings()}
        self._quota = QuotaBook(_TENANTS)
        self._budgets = BudgetBook(_TENANTS)
        self._queue: BackendQueue[Job] = BackendQueue(
            "upstream", FairQueue(tiers, _TENANTS), [EngineCapacity(_PLACES, None, ahead=0)]
        )
        self._queue.replica_up(0, 1)
        self._grants: dict[str, Grant] = {}
        self.settled = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """One worker."""
        frames, peer = Frames(stream), str(id(stream))
        async with stream:
            while (frame := await frames.receive()) is not None:
                answers = self._take(peer, _messages.decode(frame))
                if answers:
                    await frames.send(_encoder.encode(answers))

    def check(self) -> None:
        """Raise if anything is still reserved or queued."""
        self._queue.check_integrity()
        if self._grants or self._queue.in_hand or len(self._queue):
            raise AssertionError(f"{len(self._grants)} grants are open, {self._queue.in_hand} jobs run")

    def _take(self, peer: str, messages: list[Message]) -> list[int]:
        now, wall = trio.current_time(), time.time()
        ended = []
        for number, tenant, used in messages:
            job_id = f"{peer} {number}"
            if used >= 0:
                grant = self._grants.pop(job_id)
                self._quota.settle(grant.reservation, used)
                self._budgets.settle(grant.hold, _COST)
                ended.append(job_id)
                self.settled += 1
                continue
            answer = set_aside(self._quota, self._budgets, tenant, _TOKENS, _COST, now, wall)
            assert isinstance(answer, Grant), answer
            self._grants[job_id] = answer
            self._queue.offer(Job(job_id=job_id, tenant=tenant, prompt_tokens=20, tokens=_TOKENS), now, [None])
        if ended:
            self._queue.finished(ended)
        self._queue.advance(now, [None])
        started = [effect for effect in self._queue.effects if isinstance(effect, StartOn)]
        self._queue.effects.clear()
        return [int(str(effect.job.job_id).partition(" ")[2]) for effect in started]


class Worker:
    """One gateway process: requests in flight, and one connection to the state process."""

    def __init__(self, frames: Frames, work_s: float, until: float) -> None:
        self._frames = frames
        self._work_s = work_s
        self._until = until
        self._outbox: list[Message] = []
        self._wakes: dict[int, trio.Event] = {}
        self._next = 0
        self._posted = trio.Event()
        self._closing = False
        self.waits: list[float] = []

    async def run(self, in_flight: int) -> None:
        async with trio.open_nursery() as receiving:
            receiving.start_soon(self._receive)
            async with trio.open_nursery() as sending:
                sending.start_soon(self._send)
                async with trio.open_nursery() as requests:
                    for number in range(in_flight):
                        requests.start_soon(self._client, _NAMES[number % len(_NAMES)])
                self._closing = True
                self._posted.set()
            receiving.cancel_scope.cancel()

    async def _client(self, tenant: str) -> None:
        while time.perf_counter() < self._until:
            self._next += 1
            number, asked_at = self._next, time.perf_counter()
            event = self._wakes[number] = trio.Event()
            self._post((number, tenant, -1))
            await event.wait()
            self.waits.append(time.perf_counter() - asked_at)
            end = time.thread_time() + self._work_s
            while time.thread_time() < end:
                pass
            await trio.lowlevel.checkpoint()
            self._post((number, tenant, 120))

    def _post(self, message: Message) -> None:
        self._outbox.append(message)
        self._posted.set()

    async def _send(self) -> None:
        while self._outbox or not self._closing:
            await self._posted.wait()
            self._posted = trio.Event()
            messages, self._outbox = self._outbox, []
            if messages:
                await self._frames.send(_encoder.encode(messages))

    async def _receive(self) -> None:
        while (frame := await self._frames.receive()) is not None:
            for number in _numbers.decode(frame):
                self._wakes.pop(number).set()


def _state_process(path: str, workers: int, results: Any) -> None:
    async def main() -> None:
        state = State()
        address = trio.socket.socket(trio.socket.AF_UNIX)
        await address.bind(path)
        address.listen(workers)
        cpu_s = time.process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                sock, _ = await address.accept()
                nursery.start_soon(state.serve, trio.SocketStream(sock))
        state.check()
        results.put(("state", state.settled, time.process_time() - cpu_s))

    trio.run(main)


def _worker_process(path: str, work_s: float, seconds: float, in_flight: int, results: Any) -> None:
    async def main() -> None:
        stream = None
        while stream is None:
            try:
                stream = await trio.open_unix_socket(path)
            except (FileNotFoundError, ConnectionRefusedError):
                await trio.sleep(0.01)
        worker = Worker(Frames(stream), work_s, time.perf_counter() + seconds)
        async with stream:
            await worker.run(in_flight)
        results.put(("worker", len(worker.waits), sorted(worker.waits)))

    trio.run(main)


def measure(workers: int, work_us: float, seconds: float, in_flight: int) -> Figures:
    """Run the state process and so many workers for a time."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = os.fspath(Path(folder) / "state")
        processes = [context.Process(target=_state_process, args=(path, workers, results))]
        given = (path, work_us / 1e6, seconds, in_flight, results)
        processes += [context.Process(target=_worker_process, args=given) for _ in range(workers)]
        for process in processes:
            process.start()
        found = [results.get(timeout=seconds + 60) for _ in processes]
        for process in processes:
            process.join()
    settled, cpu_s = next((count, cpu) for kind, count, cpu in found if kind == "state")
    waits = sorted([wait for kind, _, waits in found if kind == "worker" for wait in waits])
    if settled != len(waits):
        raise AssertionError(f"{len(waits)} requests were granted, and {settled} were settled")
    grant_ms = [1000 * statistics.median(waits), 1000 * waits[len(waits) * 99 // 100]]
    return Figures(workers, settled / seconds, 1e6 * cpu_s / settled, grant_ms)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--work-us", type=float, default=600, help="CPU of a request in its worker")
    parser.add_argument("--in-flight", type=int, default=32, help="requests of each worker")
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    print("| workers | requests/s | CPU of the state process, µs a request | grant p50 / p99, ms |")
    print("| ---: | ---: | ---: | ---: |")
    for workers in arguments.workers:
        found = measure(workers, arguments.work_us, arguments.seconds, arguments.in_flight)
        median, p99 = found.grant_ms
        print(f"| {workers} | {found.requests_per_s:,.0f} | {found.state_cpu_us:.0f} | {median:.2f} / {p99:.2f} |")


if __name__ == "__main__":
    main()
