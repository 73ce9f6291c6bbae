"""One worker: sends the requests of its share of the schedule at their times, and tallies what comes back.

A request's bytes are made before its time, so that making them does not delay it. What the tally costs is paid between
events, in small pieces. Both are part of the lag that is measured.
"""

import contextlib
import itertools
import ssl
import time
from collections import deque
from collections.abc import Callable
from random import Random

import msgspec
import numpy as np
import trio

from actors.upstream.http.read_watcher import ReadWatcher
from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.call import Caller, CallTimes, OpenCalls
from loadtests.client.connections import Connections
from loadtests.client.request_bytes import Message, PreparedRequest
from loadtests.client.retries import is_retried, pause_before
from loadtests.client.wire import LoopClock
from loadtests.model.scenario import Scenario
from loadtests.model.timing import duration_of
from loadtests.running.exact_timer import ExactTimer
from loadtests.running.finished_request import FinishedRequest
from loadtests.running.progress import WorkerProgress
from loadtests.running.request_maker import RequestMaker, trimmed
from loadtests.running.tally import Tally, WorkerTally, window_width
from loadtests.schedule.arrival_times import arrival_times
from loadtests.schedule.request_plan import Planner, RequestPlan
from loadtests.schedule.traced_request import TracedRequest

_HOUSEKEEPING_S = 0.05
_MADE_AHEAD = 64
"""Requests whose bytes are there before their time: so many may be due at once."""
_MADE_AT_ONCE = 2
_REPORTED_EVERY = 10
"""Rounds of housekeeping."""
_AFTER_FAILURE_S = 0.1
"""A client of a closed loop waits so long before its next request, lest it ask a dead server thousands of times."""
_BEFORE_ANSWER = frozenset({failures.CONNECT_FAILED, failures.CONNECTION_LOST})


class WorkerShare(msgspec.Struct, frozen=True):
    """What one worker does of a run."""

    scenario: Scenario
    keys: dict[str, str]
    """API keys by tenant; "": of requests without one."""
    worker: int = 0
    workers: int = 1
    trace: tuple[TracedRequest, ...] = ()
    """All requests of the run, if they come from a trace."""


class Worker:
    """`run` it once. Unless the name says otherwise, times are seconds from the run's beginning."""

    def __init__(self, share: WorkerShare, report: Callable[[WorkerProgress], None]) -> None:
        scenario = self._scenario = share.scenario
        self._share = share
        self._begun_s = 0.0
        """The beginning of the run, of `time.perf_counter`."""
        self._duration_s = duration_of(scenario)
        self._report = report
        self._planner = Planner(scenario, share.trace)
        times = [request.at_s for request in share.trace] if share.trace else arrival_times(scenario).tolist()
        self._times: list[float] = times[share.worker :: share.workers]
        self._maker = RequestMaker(scenario, self._planner.mix, share.keys)
        seed = f"{scenario.seed}/worker/{share.worker}"
        self._rng = Random(seed)  # noqa: S311  (no secret)
        self._tally = Tally(scenario, window_s=window_width(self._duration_s), rows=scenario.rows, seed=seed)
        bound = scenario.arrivals.max_in_flight
        self._places = None if bound is None else trio.CapacityLimiter(part_of(bound, share))
        watcher, loop = ReadWatcher(), LoopClock()
        self._watcher, self._loop = watcher, loop
        target = scenario.target
        maker = self._maker
        self._connections = Connections(
            maker.addresses["chat"],
            _context(scenario) if maker.addresses["chat"].tls else None,
            connect_s=target.connect,
            watcher=watcher,
            loop=loop,
            lags=self._tally.read_lags,
        )
        self._calls = OpenCalls(target.silence)
        self._callers = {
            name: Caller(where, maker.socket_target, self._connections, self._calls)
            for name, where in maker.addresses.items()
        }
        self._progress = WorkerProgress()
        self._scope = trio.CancelScope()
        self._stopped = False

    def stop(self) -> None:
        """End the run now; answers that have not ended count as left."""
        self._stopped = True
        self._scope.cancel()

    async def open_connections(self) -> None:
        """Those that the scenario wants to be open before the run. A server that is not there is found by the run."""
        await self._connections.prepare(part_of(self._scenario.target.connections, self._share))

    async def run(self, begun_s: float) -> WorkerTally:
        """Until all answers have ended, or the time for them is over.

        `begun_s`: the run's beginning by `time.perf_counter`, which all processes of a machine share.
        """
        self._begun_s = begun_s
        began_s, computed_s = max(time.perf_counter(), begun_s), time.process_time()
        trio.lowlevel.add_instrument(self._loop)
        try:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(self._watcher.run)
                helpers.start_soon(self._calls.watch)
                helpers.start_soon(self._keep_house)
                with self._scope:
                    self._scope.deadline = self._loop_time(self._duration_s + self._scenario.drain)
                    async with trio.open_nursery() as requests:
                        if self._scenario.arrivals.kind == "closed":
                            await self._closed(requests)
                        else:
                            await self._open(requests)
                helpers.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(self._loop)
            self._connections.close()
            self._watcher.close()
        self._tell(self._now())
        tally = self._tally.result()
        tally.lag.by_kernel = self._connections.stamped
        took_s = time.perf_counter() - began_s
        tally.lag.busiest = (time.process_time() - computed_s) / took_s if took_s > 0 else 0.0
        return tally

    async def _open(self, requests: trio.Nursery) -> None:
        """Each arrival at its time, whatever has become of those before it."""
        share = self._share
        upcoming = enumerate(self._times)
        made: deque[tuple[RequestPlan, PreparedRequest, float]] = deque()

        def make(most: int) -> None:
            for place, intended_s in itertools.islice(upcoming, min(most, _MADE_AHEAD - len(made))):
                plan = self._planner.plan(share.worker + place * share.workers)
                made.append((plan, self._maker.make(plan, 0, ()), intended_s))

        make(_MADE_AHEAD)
        with contextlib.closing(ExactTimer()) as timer:
            while made:
                await timer.wait_until(self._begun_s + made[0][2])
                now = self._now()
                while made and made[0][2] <= now:
                    requests.start_soon(self._session, *made.popleft())
                # They are sent before others are made. Twice: tasks that are ready run in any order.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                make(_MADE_AT_ONCE)

    async def _closed(self, requests: trio.Nursery) -> None:
        share = self._share
        numbers = iter(range(share.worker, 1 << 62, share.workers))

        async def client() -> None:
            while self._now() < self._duration_s:
                plan = self._planner.plan(next(numbers))
                request = self._maker.make(plan, 0, ())
                if not await self._session(plan, request, self._now()):
                    await trio.sleep(_AFTER_FAILURE_S)

        await trio.sleep(max(0.0, self._begun_s - time.perf_counter()))
        for _ in range(part_of(self._scenario.arrivals.clients or 0, share)):
            requests.start_soon(client)

    async def _session(self, plan: RequestPlan, request: PreparedRequest, intended_s: float) -> bool:
        """Returns whether all turns were answered."""
        history: list[Message] = []
        session = self._scenario.sessions.get(plan.kind.session)
        for turn, this in enumerate(plan.turns):
            if turn:
                intended_s = self._now() + this.pause_s
                if intended_s >= self._duration_s:
                    break
                request = self._maker.make(plan, turn, history)
                await trio.sleep(max(0.0, self._begun_s + intended_s - time.perf_counter()))
            answer = await self._request(plan, turn, request, intended_s)
            if answer.failure:
                return False
            if session is not None:
                said = {"role": "assistant", "content": "".join(answer.text)}
                history = trimmed([*history, {"role": "user", "content": this.text}, said], session.context)
        return True

    async def _request(self, plan: RequestPlan, turn: int, request: PreparedRequest, intended_s: float) -> Answer:
        """One request with its retries; it is tallied however it ends."""
        finished = FinishedRequest(
            number=plan.number,
            kind=plan.kind,
            answer=Answer(),
            intended_s=intended_s,
            free_s=intended_s,
            sent_s=intended_s,
            begun_s=self._begun_s,
            turn=turn,
            in_session=len(plan.turns) > 1,
        )
        places, borrower = None, object()
        try:
            if self._places is not None:
                await self._wait_for_place(self._places, borrower, finished)
                places = self._places
            await self._attempts(plan, request, finished)
        except trio.Cancelled:
            name = failures.LEFT if self._stopped else failures.UNFINISHED
            finished.answer.fail(name, "the run was cut short" if self._stopped else "the run was over")
            finished.answer.ended(time.perf_counter(), in_order=False)
            raise
        finally:
            if places is not None:
                places.release_on_behalf_of(borrower)
            self._ended(finished)
        return finished.answer

    async def _wait_for_place(self, places: trio.CapacityLimiter, borrower: object, finished: FinishedRequest) -> None:
        try:
            places.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            self._progress.waiting += 1
            try:
                await places.acquire_on_behalf_of(borrower)
            finally:
                self._progress.waiting -= 1
            finished.free_s = self._now()

    async def _attempts(self, plan: RequestPlan, request: PreparedRequest, finished: FinishedRequest) -> None:
        kind = plan.kind
        headers, behaviour = self._maker.headers[plan.kind_index], self._maker.behaviours[plan.kind_index]
        while True:
            answer = Answer(
                max_tokens=request.max_tokens,
                keep_text=finished.in_session,
                one_token_events=self._scenario.target.one_token_events,
            )
            finished.answer = answer
            if finished.attempts == 1:
                self._sent(finished)
            times: CallTimes = await self._callers[kind.endpoint].call(request, headers, kind.tenant, behaviour, answer)
            finished.connect_s = times.connect_s
            finished.resumed = times.resumed
            if finished.attempts > behaviour.retries or not _may_retry(answer):
                return
            finished.attempts += 1
            now = time.time()
            await trio.sleep(pause_before(finished.attempts, answer.retry_after, self._rng.random(), now))

    def _sent(self, finished: FinishedRequest) -> None:
        finished.sent_s = self._now()
        lag_s = finished.sent_s - finished.free_s
        self._tally.sent(finished.sent_s, lag_s)
        self._progress.lag.add_one(lag_s)
        self._progress.sent += 1

    def _ended(self, finished: FinishedRequest) -> None:
        self._tally.ended(finished)
        progress, answer = self._progress, finished.answer
        progress.tokens += len(answer.times)
        match answer.failure:
            case "":
                progress.ok += 1
                if finished.first_s is not None:
                    progress.ttft.add_one(finished.first_s - finished.intended_s)
                progress.itl_mean_s = finished.tpot_s or progress.itl_mean_s
            case failures.LEFT:
                progress.left += 1
            case failures.SHED:
                progress.shed += 1
            case _:
                progress.failed += 1

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            now = self._now()
            some = self._tally.take_lags(now)
            if len(some):
                self._progress.lag.add_one(float(np.max(some)))
            rounds += 1
            if rounds % _REPORTED_EVERY == 0:
                self._tell(now)
                self._connections.drop_expired()

    def _tell(self, now: float) -> None:
        progress = self._progress
        progress.at_s = now
        progress.in_flight = len(self._calls)
        self._tally.in_flight(max(now, 0.0), progress.in_flight)
        self._report(msgspec.structs.replace(progress))
        fresh = WorkerProgress()
        progress.ttft, progress.lag = fresh.ttft, fresh.lag

    def _now(self) -> float:
        return time.perf_counter() - self._begun_s

    def _loop_time(self, at_s: float) -> float:
        """A time of the run on the event loop's clock."""
        return trio.current_time() + at_s - self._now()


def part_of(count: int, share: WorkerShare) -> int:
    """One worker's part of something countable; those of all workers add up."""
    return count // share.workers + (share.worker < count % share.workers)


def _may_retry(answer: Answer) -> bool:
    if answer.first_s is not None:
        return False
    if answer.failure in _BEFORE_ANSWER:
        return is_retried(0, "")
    return answer.status >= 400 and is_retried(answer.status, answer.should_retry)


def _context(scenario: Scenario) -> ssl.SSLContext:
    authorities = scenario.target.authorities
    return ssl.create_default_context(cafile=None if authorities is None else str(authorities))
