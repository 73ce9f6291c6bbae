"""One call of an upstream: one address after the other as long as none was reached, and a second beside a slow one."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import structlog
import trio

from actors.api.request import ChatPrompt
from actors.kernel.clock import loop_clock
from actors.protocol.delivery import TextDelta
from actors.protocol.job import UpstreamCall
from actors.upstream.client import TAIL_S, UpstreamClient
from actors.upstream.failures.failure import Failure
from actors.upstream.failures.redaction import without_prompt_quotes
from actors.upstream.failures.request_fault import blamed
from actors.upstream.hedging import Hedging
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.replicas import AllPaused
from actors.upstream.request_body import UpstreamRequestBody, build_request_body
from actors.upstream.upstream_status import UpstreamStatus
from config.model.upstreams import UpstreamSettings
from policies.fallback.verdict import UpstreamError

_MAX_TOKENS = 1 << 20
"""Limit for counting the tokens of an answer that has none."""
log = structlog.get_logger()


class CallEnd(msgspec.Struct, frozen=True, gc=False):
    """How a call of one address ended."""

    failure: Failure | None
    begun: bool
    """Output was delivered."""


_CallAddress = Callable[[int, Callable[[TextDelta], None]], Awaitable[CallEnd]]


class AddressCalls:
    """Makes the calls of one incarnation of an upstream's actor, each in its own task."""

    def __init__(
        self,
        published: UpstreamStatus,
        settings: UpstreamSettings,
        client: UpstreamClient,
        *,
        has_slot: Callable[[], bool],
        on_tokens: Callable[[int], None],
    ) -> None:
        """`has_slot`: whether one more call may run. `on_tokens`: output tokens of a call that has ended."""
        self._published = published
        self._settings = settings
        self._client = client
        self._has_slot = has_slot
        self._on_tokens = on_tokens
        self._clock = loop_clock()

    async def run(self, call: UpstreamCall, deadline: float, hand_out: Callable[[TextDelta], None]) -> Failure | None:
        """None: the answer was complete, and `hand_out` received all of it. `deadline`: when content is due."""
        published = self._published
        body = build_request_body(call, self._settings)
        tried: list[int] = []
        knows = published.affinity.address_of(call.marks)
        failure: Failure | None = None
        while True:
            number = published.replicas.choose(self._clock(), tried, knows)
            if number is None:
                return failure
            if isinstance(number, AllPaused):
                return failure or Failure(
                    kind="upstream_resting" if number.failing else "upstream_busy",
                    message="The upstream has asked for a pause.",
                    retry_after_s=number.retry_after_s,
                )
            tried.append(number)
            call_address = partial(self._call, call, deadline, body)
            if published.hedging is None or not call.streamed:
                end = await call_address(number, hand_out)
            else:
                end = await _Race(self, published.hedging, call_address, hand_out).run(number, tried)
            failure = end.failure
            if failure is None or end.begun:
                return failure
            requests_pause = failure.fault == "load" or failure.retry_after_s is not None
            if failure.reached and not requests_pause:
                return failure

    async def _call(
        self,
        call: UpstreamCall,
        deadline: float,
        body: UpstreamRequestBody,
        number: int,
        on_output: Callable[[TextDelta], None],
    ) -> CallEnd:
        """Call one address."""
        published = self._published
        published.requests_total += 1
        began_at = self._clock()
        ttft_s: float | None = None
        offered = call.prompt.tools.names if isinstance(call.prompt, ChatPrompt) and call.prompt.tools else ()
        logprobs = call.params.logprobs is not None
        max_tokens = call.limit if call.limit is not None else _MAX_TOKENS
        reader = ResponseReader(
            call.sequence_id,
            max_tokens,
            offered=offered,
            logprobs=logprobs,
            extra_fields=self._settings.extra_fields == "pass_on",
        )

        def received(output: TextDelta) -> None:
            nonlocal ttft_s
            if ttft_s is None:
                ttft_s = self._clock() - began_at
                published.ttft.add(ttft_s)
                if published.hedging is not None:
                    published.hedging.answered(ttft_s)
            if output.finish is not None and output.upstream_finish:
                log.warning("upstream_finish_unknown", upstream=published.name, word=output.upstream_finish)
            on_output(output)

        ok: bool | None = None
        failure: Failure | None = None
        try:
            tail_s = min(TAIL_S, call.stall_s / 4)
            failure = await self._client.call(published.urls[number], body, reader, received, tail_s=tail_s)
            if failure is not None:
                failure = blamed(failure, call)
            ok = True if failure is None else failure.breaker_outcome
        except trio.Cancelled:
            if ttft_s is None and self._clock() >= deadline:
                # The address used up the whole deadline without any output.
                ok = False
                published.failures["upstream_silent"] += 1
            raise
        finally:
            pause_s = failure.retry_after_s if failure is not None else None
            self._on_tokens(reader.tokens)
            now = self._clock()
            if ok and call.marks:
                published.affinity.answered(call.marks, number)
            why = published.replicas.end(number, ok, now, retry_after_s=pause_s, ttft_s=ttft_s)
            if why is not None:
                log.warning("upstream_address_ejected", upstream=published.name, url=published.urls[number], why=why)
        if failure is not None:
            failure = self._counted(failure, number, call)
        return CallEnd(failure, ttft_s is not None)

    def second(self, hedging: Hedging, tried: list[int]) -> int | None:
        """The address of a second call beside a slow first one; None: there is to be none."""
        if not (self._has_slot() and hedging.may_begin):
            return None
        number = self._published.replicas.choose(self._clock(), tried)
        if not isinstance(number, int):
            return None
        hedging.take()
        tried.append(number)
        return number

    def _counted(self, failure: Failure, number: int, call: UpstreamCall) -> Failure:
        """Count and log a failure; returns it without quotes of the prompt."""
        published = self._published
        said = without_prompt_quotes(failure.upstream_error, call.prompt)
        reason = without_prompt_quotes(UpstreamError(message=failure.reason), call.prompt).log_message
        if not (said.code or said.message):
            # The decision record has at least our own reason.
            said = msgspec.structs.replace(said, log_message=reason)
        failure = msgspec.structs.replace(failure, upstream_error=said)
        published.failures[failure.kind] += 1
        words = said.log_message if said.message else ""
        details = {"status": failure.status, "reason": reason, "code": said.code, "words": words}
        details = {name: value for name, value in details.items() if value}
        level = {"operator": log.error, "client": log.info}.get(failure.fault, log.warning)
        level("upstream_call_ended", upstream=published.name, url=published.urls[number], kind=failure.kind, **details)
        return failure


class _Race:
    """Up to two calls of one answer: the first to give output goes on, and the other one is cancelled."""

    def __init__(
        self, calls: AddressCalls, hedging: Hedging, call: _CallAddress, hand_out: Callable[[TextDelta], None]
    ) -> None:
        """`call` makes the call of one address; `hand_out` gets the output of the one that goes on."""
        self._calls = calls
        self._hedging = hedging
        self._call = call
        self._hand_out = hand_out
        self._scopes: dict[int, trio.CancelScope] = {}
        """Of the calls that run, by address."""
        self._winner: int | None = None
        self._end: CallEnd | None = None
        self._are_two = False
        self._over = trio.Event()
        """There is output, or no call runs any more."""

    async def run(self, number: int, tried: list[int]) -> CallEnd:
        """Call `number`, and if it gives no output in time, another address, which is added to `tried`."""
        self._hedging.began()
        delay_s = self._hedging.delay_s()
        second: int | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, number)
            with trio.move_on_after(delay_s if delay_s is not None else float("inf")):
                await self._over.wait()
            if not self._over.is_set():
                second = self._calls.second(self._hedging, tried)
                if second is not None:
                    self._are_two = True
                    nursery.start_soon(self._run, second)
        if second is not None:
            self._hedging.ended(won=self._winner == second)
        assert self._end is not None, "a call that was not cancelled has ended"
        return self._end

    async def _run(self, number: int) -> None:
        try:
            with trio.CancelScope() as scope:
                self._scopes[number] = scope
                end = await self._call(number, partial(self._received, number))
                if self._winner in {None, number}:
                    self._end = end
        finally:
            del self._scopes[number]
            if self._are_two:
                self._are_two = False
                self._hedging.give_back()
        if not self._scopes:
            self._over.set()

    def _received(self, number: int, output: TextDelta) -> None:
        if self._winner is None:
            self._winner = number
            self._over.set()
            for other, scope in self._scopes.items():
                if other != number:
                    scope.cancel()
        if self._winner == number:
            self._hand_out(output)
