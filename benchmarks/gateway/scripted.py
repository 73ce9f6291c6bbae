"""The HTTP layer alone: real parsing, rendering and sending, with a scripted service without actors behind it."""

import trio

from actors.api.request import InferenceRequest
from actors.api.response import AttemptSummary, DecisionInfo, Delta, Done, ResponseEvent, Served, Start, Usage
from actors.kernel.clock import system_time
from actors.request.request_log import RequestLog
from actors.request.response_stream import EventSink

_SERVED = Served("bench", "bench", "asked_for", (AttemptSummary("bench", "answered", "asked_for"),))
_DONE = Done(Usage(16, 1), _SERVED)
_START = Start("bench", "bench", 16)
_DECIDED = DecisionInfo("000000000000")
_DELTA = Delta(0, " token", (1,))
_LAST = Delta(0, " token", (1,), (), "length")


class ScriptedExchange:
    """One token every `step_s`, or per call if 0."""

    decided = _DECIDED

    def __init__(self, tokens: int, step_s: float, silent_tokens: int) -> None:
        self._left = tokens
        self._step_s = step_s
        self._silent = tokens == silent_tokens
        self._next_at = trio.current_time()
        self._begun = False

    async def next_events(self) -> list[ResponseEvent]:
        events: list[ResponseEvent] = []
        if not self._begun:
            self._begun = True
            events.append(_START)
        elif self._silent:
            await trio.sleep_forever()
        if self._step_s:
            self._next_at += self._step_s
            await trio.sleep_until(self._next_at)
        else:
            # A real answer waits for its engine, which costs at least one pass of the event loop per piece.
            await trio.lowlevel.checkpoint()
        self._left -= 1
        return [*events, _DELTA] if self._left else [*events, _LAST, _DONE]

    def emit_through(self, sink: EventSink) -> None: ...

    def close(self) -> None: ...


class ScriptedService:
    """Opens every request at once."""

    policy = _DECIDED.policy
    keyless = False
    wall = staticmethod(system_time)

    def check_key(self, key: str | None) -> None: ...

    request_log = RequestLog(lambda: False, str)

    def rate_limits(self, key: str | None) -> None: ...

    def check_scraper(self, key: str | None) -> None: ...

    def known_tenant(self, key: str | None) -> str:
        del key
        return ""

    def tiers_above(self, key: str | None, endpoint: str | None = None) -> int:
        del key, endpoint
        return 0

    def __init__(self, step_s: float, silent_tokens: int) -> None:
        self._step_s = step_s
        self._silent_tokens = silent_tokens

    async def open(self, request: InferenceRequest) -> ScriptedExchange:
        await trio.lowlevel.checkpoint()
        return ScriptedExchange(request.body.params.max_tokens, self._step_s, self._silent_tokens)
