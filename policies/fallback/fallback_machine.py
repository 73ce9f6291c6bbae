"""Decides what is tried next when an attempt fails, and when to stop trying.

It takes one response through its plan. The shell calls `start`, then reports events; each call returns the next thing
to do, or None while the current attempt continues.

- Before the commit point (the first content that the client receives): the same rung again, within its `retries` and
  the shared retry budget, then the next rung, then a static answer.
- After it the plan's `midstream` decides. "continue": the next rung with the same tokenizer continues from the exact
  token ids that the client has, or an upstream from the text. "error" and "restart": the stream ends with an error
  event. If only reasoning was sent, "continue" and "restart" allow a new start.
- Tool calls and JSON are atomic: once content of one was sent, it is continued from its exact tokens or not at all.
- Escalation from the small to the large model is no failure: it may happen after the commit point, with the released
  tokens as prefix, whatever `midstream` says. If a stage cannot serve, the plan's rungs follow under the rules above.
- One deadline bounds the response: `ttft_at` until an attempt has had output, `total_at` always (`Clocks`). A static
  answer takes no time and is sent even after it.
- An engine that refused, or failed in a way that a retry does not help, is not tried again for this response; one that
  failed otherwise is tried again only as a retry.
- Before an upstream is tried again there is a pause: a random part of a time that doubles with each retry. A pause that
  the upstream itself asks for is kept once for a response if it is within the rung's `wait_out`; otherwise the next
  rung is tried at once. No pause exceeds the deadline.
- If no rung is left, an upstream that broke off in the middle of the answer is asked again: after a pause, within its
  `retries`, which count anew, and the shared budget. So is one that stalled, before the commit point, too.
- If that is not possible either, and a rung that has crashed can go on, the response waits for its restart: at most
  twice, and after the commit point no longer than `stall_s`.
- What a content filter has refused is not tried elsewhere, unless the plan's `on_content_filter` says "next". A request
  that a server has called invalid gets no static answer, which would look like an outage.

It always ends: every failure uses up an attempt, and the plan bounds attempts.
"""

from typing import Literal

import msgspec

from config.model.words import STATIC_ANSWER
from policies.fallback.clocks import Clocks
from policies.fallback.retry_budget import Pauses
from policies.fallback.verdict import NO_UPSTREAM_ERROR, Reason, UpstreamError, Verdict, verdict
from policies.model.plan import AttemptOutcome, AttemptRecord, Plan, PlannedRung

Prefix = tuple[tuple[int, ...], ...]
"""Token ids that the client has, one tuple for each choice; empty: from the beginning."""


PROCESS_ENDED = "process_ended"
"""Why the attempt of an ended process failed."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer, which an ended process has sent."""

    rung: str
    prefix: Prefix = ()
    tokenizer: str = ""
    """Digest of the tokenizer whose ids the prefix has."""
    atomic: bool = False
    answer: bool = True
    """See `ContentSent`."""


class ContentSent(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Content was sent to the client: the commit point is passed. Repeated events only add `atomic`."""

    atomic: bool = False
    """It is, or is part of, a tool call or JSON."""
    answer: bool = True
    """It is part of the answer; False: nothing but reasoning."""


class AttemptFailed(msgspec.Struct, frozen=True, tag=True, gc=False, kw_only=True):
    """The attempt failed: its engine or upstream broke off while it had the job, or a deadline passed."""

    kind: str
    """A stable code: "engine_failed", "ttft_timeout", "stall" ..."""
    retryable: bool
    """The same rung may succeed at once."""
    fatal: bool = False
    """The request is at fault: no rung will succeed."""
    message: str = ""
    prefix: Prefix = ()
    """What the client has received."""
    retry_after_s: float | None = None
    """The pause that the rung asked for."""
    rung_is_up: bool = False
    """Other replicas are up and can continue from the client's tokens: no evidence against the rung."""
    restarts: bool = False
    """It crashed, and its supervisor restarts it."""
    upstream_error: UpstreamError = NO_UPSTREAM_ERROR


class RungRefused(Reason, frozen=True, tag=True, gc=False, kw_only=True):
    """The attempt was refused: "breaker_open", "queue_full", "retry_budget", "unavailable" ..."""

    prefix: Prefix = ()
    """What the client has received, if it was refused after the commit point."""
    restarts: bool = False
    """It has crashed, and its supervisor restarts it."""


class Escalated(msgspec.Struct, frozen=True, tag=True, gc=False, kw_only=True):
    """The cascade discards the small model's answer."""

    why: str = "low_margin"
    prefix: Prefix = ()
    """What was released to the client."""


class AttemptFinished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The answer is complete."""

    why: str = "answered"
    """"confident", "asked_for", "busy" ...: goes into the history."""


FallbackEvent = ContentSent | AttemptFailed | RungRefused | Escalated | AttemptFinished


class Try(msgspec.Struct, frozen=True, tag=True, gc=False, kw_only=True):
    """Request a permit of the rung's breaker and run the attempt.

    If `is_retry`, take a retry out of the shared budget first, or answer `RungRefused(why="retry_budget")`.
    """

    rung: str
    """The name of the engine or upstream."""
    attempt: int
    """1, 2, ... over the whole response."""
    deadline: float
    """When the first output of this attempt is due."""
    first_by: float | None = None
    """The rung refuses at once if its first output is expected later; None: it does not."""
    prefix: Prefix = ()
    """Tokens to continue from."""
    from_text: bool = False
    """The rung cannot use the tokens: it continues from the text that the client has."""
    begun: bool = False
    """Part of the answer was made: the client has content, it was escalated, or an attempt broke off."""
    is_retry: bool = False
    watched: bool = False
    """The small stage of a cascade that may escalate: its outputs go through a `CascadeMachine`."""
    drafted: bool = False
    """The large stage of a cascade whose small stage drafts for it."""
    mark: str | None = None
    adapter: str = ""
    """The adapter to use; "" is none."""
    not_before: float = 0.0
    waits_for_restart: bool = False
    """The rung has crashed: wait in its queue until it is up again."""


class AnswerStatic(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Send this static text as the answer; the response has ended."""

    text: str
    mark: str | None


class GiveUp(Verdict, frozen=True, tag=True, gc=False):
    """No content was or will be sent: a true HTTP status is possible. The response has ended."""


class Break(Verdict, frozen=True, tag=True, gc=False):
    """Content was sent and no rung can continue: end the stream with this error event. The response has ended."""


FallbackEffect = Try | AnswerStatic | GiveUp | Break

_MOST_WAITS = 2
"""Restarts that one response waits for."""
_Stage = Literal["small", "large", "ladder"]
_PAUSED = frozenset({"upstream_busy", "upstream_resting"})
_NO_EVIDENCE = frozenset({"retry_budget", "adapter_not_loaded"})
"""Refusals after which a later rung may try the same engine, without the adapter for example."""


class FallbackMachine:
    """One response's fallbacks. `now` is on the clock of the plan's deadlines."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cascade = plan.cascade
        self._stage: _Stage = "ladder"
        if plan.cascade is not None:
            self._stage = "large" if plan.cascade.drafts else plan.cascade.start_on
        self._index = 0
        self._retries_left = plan.rungs[0].retries if plan.rungs and self._stage == "ladder" else 0
        self._attempts = 0
        self._current: PlannedRung | None = None
        self.committed = False
        self._sealed = False
        """Only an engine that has the exact tokens can continue what was sent: a tool call or JSON."""
        self._answer_sent = False
        """Part of the answer itself was sent, not only reasoning."""
        self._prefix: Prefix = ()
        self._tokenizer = ""
        """Of the rung whose tokens `_prefix` has."""
        self._crashed: list[PlannedRung] = []
        """Rungs that are being restarted, in the order in which they were tried."""
        self._waits_left = _MOST_WAITS
        self._broken_off: list[PlannedRung] = []
        """Upstreams that may be asked again when no other rung is left."""
        self._asked_again: dict[str, int] = {}
        """How often, by upstream."""
        self._reasons: list[Reason] = []
        self._pauses = Pauses()
        self._not_before = 0.0
        """Of the next try."""
        self._barred: set[str] = set()
        self._tried_and_failed: set[str] = set()
        self.history: tuple[AttemptRecord, ...] = ()
        self._output_came = False
        """From whichever attempt, shown or not."""
        self.clocks = Clocks(plan.ttft_at, plan.total_at, plan.stall_s, 0.0)
        self.ended = False
        """The response has ended; further events have no effect."""

    @property
    def mark(self) -> str | None:
        return self._current.mark if self._current is not None else None

    def start(self, now: float) -> FallbackEffect:
        if self._attempts or self.ended:
            raise RuntimeError("a fallback machine starts once")
        self._begin(now)
        return self._next(now)

    def go_on(self, begun: Begun, now: float) -> FallbackEffect:
        """Instead of `start`: a process that has ended had sent a part of the answer.

        What is tried is as after a failure of its rung, the large stage of a cascade first: nothing is known of the
        small one's statistic.
        """
        self._begin(now)
        self.history += (AttemptRecord(begun.rung, "failed", PROCESS_ENDED),)
        self._reasons.append(Reason(why=PROCESS_ENDED))
        self.committed = True
        self._sealed, self._answer_sent = begun.atomic, begun.answer
        self._prefix, self._tokenizer = begun.prefix, begun.tokenizer
        if self._stage == "small":
            self._stage = "large"
        return self._next(now) if self._may_continue() else self._stop(now)

    def _begin(self, now: float) -> None:
        self.clocks = msgspec.structs.replace(self.clocks, ttft_s=max(self._plan.ttft_at - now, 0.0))

    def output_came(self) -> None:
        """The current attempt has had output, whether the client gets it now or not."""
        self._output_came = True

    def on(self, event: FallbackEvent, now: float, random01: float = 0.0) -> FallbackEffect | None:
        """The next effect; None: continue with the current attempt, or the response has ended.

        `random01`: a random number in 0..1, by which a pause before a retry is shortened.
        """
        if self.ended or self._current is None:
            return None
        match event:
            case ContentSent(atomic, answer):
                self.committed = True
                self._answer_sent = self._answer_sent or answer
                self._sealed = self._sealed or atomic
                return None
            case AttemptFinished(why):
                self._note("answered", why)
                self.ended = True
                return None
            case Escalated(why=why, prefix=prefix):
                return self._escalate(why, prefix, now)
            case RungRefused():
                return self._refuse(event, now, random01)
            case AttemptFailed():
                return self._fail(event, now, random01)

    def _escalate(self, why: str, prefix: Prefix, now: float) -> FallbackEffect | None:
        if self._stage != "small":
            return None
        self._note("escalated", why)
        if self._sealed:
            return self._stop(now)
        self._client_has(prefix)
        self._stage = "large"
        return self._next(now)

    def _refuse(self, event: RungRefused, now: float, random01: float) -> FallbackEffect:
        assert self._current is not None
        self._note("refused", event.why, event.upstream_error)
        self._reasons.append(event)
        if not any(self._prefix):
            self._client_has(event.prefix)
        if event.restarts:
            self._crashed.append(self._current)
        if event.fatal or (event.why == "content_filter" and self._plan.on_content_filter == "stop"):
            return self._stop(now)
        if event.why in _PAUSED and self._wait_out(event.retry_after_s, now, random01):
            return self._next(now)
        if self._current.to is not None and event.why not in _NO_EVIDENCE:
            self._barred.add(self._current.to)
        return self._move_on(now, random01)

    def _fail(self, event: AttemptFailed, now: float, random01: float) -> FallbackEffect:
        assert self._current is not None
        self._note("failed", event.kind, event.upstream_error)
        self._reasons.append(
            Reason(
                why=event.kind,
                message=event.message,
                retry_after_s=event.retry_after_s,
                fatal=event.fatal,
                upstream_error=event.upstream_error,
            )
        )
        self._client_has(event.prefix)
        if event.restarts:
            self._crashed.append(self._current)
        if self._current.to is not None:
            (self._tried_and_failed if event.retryable else self._barred).add(self._current.to)
        if event.fatal:
            return self._stop(now)
        may_go_on = event.rung_is_up and self._plan.midstream == "continue"
        may_retry = self._stage == "ladder" and event.retryable and (not self.committed or may_go_on)
        if may_retry and self._tries_again(event, now, random01):
            return self._next(now)
        broke_off = event.kind == "stall" or (event.retryable and self.committed)
        if self._current.is_upstream and broke_off and event.retry_after_s is None:
            self._broken_off.append(self._current)
        return self._move_on(now, random01)

    def _tries_again(self, event: AttemptFailed, now: float, random01: float) -> bool:
        if event.retry_after_s is not None:
            return self._wait_out(event.retry_after_s, now, random01)
        if self._retries_left < 1:
            return False
        if self._current is not None and self._current.is_upstream:
            at = self._pauses.before_retry(now, random01, self._deadline())
            if at is None:
                return False
            self._not_before = at
        self._retries_left -= 1
        return True

    def _wait_out(self, pause_s: float | None, now: float, random01: float) -> bool:
        """Whether to wait for the pause that the rung asked for, and to try it again."""
        rung = self._current
        if rung is None or rung.to is None or pause_s is None or self.committed or self._stage != "ladder":
            return False
        at = self._pauses.waited_out(rung, pause_s, now, random01, self._deadline())
        if at is None:
            return False
        self._tried_and_failed.add(rung.to)
        self._not_before = at
        return True

    def _move_on(self, now: float, random01: float) -> FallbackEffect:
        if self.committed and not self._may_continue():
            return self._stop(now)
        self._advance()
        return self._next(now, random01)

    def _may_continue(self) -> bool:
        midstream = self._plan.midstream
        return midstream == "continue" or (midstream == "restart" and not self._answer_sent)

    def _advance(self) -> None:
        """Move to the next rung; after a stage that cannot serve, to the ladder."""
        if self._stage == "ladder":
            self._index += 1
        else:
            self._stage = "ladder"
            self._index = 0
        if self._index < len(self._plan.rungs):
            self._retries_left = self._plan.rungs[self._index].retries

    def _next(self, now: float, random01: float = 0.0) -> FallbackEffect:
        while True:
            rung = self._rung()
            if rung is None:
                return self._ask_again(now, random01) or self._wait_for_restart(now) or self._stop(now)
            if rung.answer is not None and not self.committed:
                if any(reason.why == "upstream_rejected" for reason in self._reasons):
                    return self._stop(now)
                self._current = rung
                self._note("answered", STATIC_ANSWER)
                self.ended = True
                return AnswerStatic(rung.answer, rung.mark)
            if self._may_try(rung, now):
                return self._try(rung, now)
            self._advance()

    def _ask_again(self, now: float, random01: float) -> Try | None:
        """No other rung can serve: the first upstream that broke off and can go on is asked again."""
        due = min(self._deadline(), now + self._plan.stall_s) if self.committed else self._deadline()
        while self._broken_off:
            rung = self._broken_off.pop(0)
            assert rung.to is not None
            asked = self._asked_again.get(rung.to, 0)
            if asked >= rung.retries or not self._can_go_on(rung):
                continue
            at = self._pauses.before_retry(now, random01, due)
            if at is None:
                continue
            self._asked_again[rung.to] = asked + 1
            self._not_before = at
            return msgspec.structs.replace(self._try(rung, now), is_retry=True)
        return None

    def _wait_for_restart(self, now: float) -> Try | None:
        """No other rung can serve: the first that has crashed and can go on serves when it is up again."""
        if not self._waits_left or now >= self._deadline():
            return None
        able = [rung for rung in self._crashed if self._can_go_on(rung)]
        if not able:
            return None
        self._waits_left -= 1
        self._crashed.remove(able[0])
        wanted = self._try(able[0], now)
        # A client that has a part waits no longer than for any other part.
        deadline = min(wanted.deadline, now + self._plan.stall_s) if self.committed else wanted.deadline
        return msgspec.structs.replace(wanted, deadline=deadline, is_retry=False, waits_for_restart=True)

    def _rung(self) -> PlannedRung | None:
        if self._cascade is not None and self._stage != "ladder":
            return self._cascade.small if self._stage == "small" else self._cascade.large
        return self._plan.rungs[self._index] if self._index < len(self._plan.rungs) else None

    def _may_try(self, rung: PlannedRung, now: float) -> bool:
        if rung.to is None or rung.to in self._barred or now >= self._deadline():
            return False
        return self._can_go_on(rung)

    def _can_go_on(self, rung: PlannedRung) -> bool:
        """Without what the client has, a new attempt would repeat it."""
        if not self._answer_sent:
            return True
        return rung.goes_on and ((rung.from_text and not self._sealed) or self._has_tokens_for(rung))

    def _client_has(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._tokenizer = self._current.tokenizer if self._current is not None else ""

    def _has_tokens_for(self, rung: PlannedRung) -> bool:
        """Whether it can continue from the token ids of the answer so far."""
        return bool(rung.tokenizer) and rung.tokenizer == self._tokenizer and any(self._prefix)

    def _deadline(self) -> float:
        return self._plan.total_at if self.committed or self._output_came else self._plan.ttft_at

    def _others_could_follow(self, rung: PlannedRung) -> bool:
        rest = self._plan.rungs[self._index + 1 :] if self._stage == "ladder" else self._plan.rungs
        left = [each for each in rest if each.to not in self._barred | {None, rung.to}]
        return any(self._can_go_on(each) for each in left)

    def _try(self, rung: PlannedRung, now: float) -> Try:
        assert rung.to is not None
        by_tokens = self._answer_sent and self._has_tokens_for(rung)
        self._current = rung
        self._attempts += 1
        not_before, self._not_before = self._not_before, 0.0
        deadline = self.clocks.first_due(
            max(now, not_before),
            rung_s=rung.ttft_s,
            others=self._others_could_follow(rung),
            came=self._output_came,
            committed=self.committed,
        )
        return Try(
            rung=rung.to,
            attempt=self._attempts,
            deadline=deadline,
            first_by=None if self._plan.first_by is None else min(self._plan.first_by, deadline),
            prefix=self._prefix if by_tokens else (),
            from_text=self._answer_sent and not by_tokens,
            begun=self.committed or self._output_came or any(record.outcome == "escalated" for record in self.history),
            is_retry=rung.to in self._tried_and_failed,
            watched=self._stage == "small" and self._cascade is not None and self._cascade.may_escalate,
            drafted=self._stage == "large" and self._cascade is not None and self._cascade.drafts and not by_tokens,
            mark=rung.mark,
            adapter=rung.adapter,
            not_before=not_before,
        )

    def _stop(self, now: float) -> GiveUp | Break:
        self.ended = True
        attempts = ", ".join(f"{record.rung}: {record.why}" for record in self.history)
        late = "ttft_timeout" if now >= self._plan.ttft_at and self._deadline() == self._plan.ttft_at else None
        late = "total_timeout" if now >= self._plan.total_at else late
        end = msgspec.structs.asdict(verdict(self._reasons, attempts, late=late))
        if not self.committed:
            return GiveUp(**end)
        return Break(**end | {"message": f"{end['message']} The answer is incomplete."})

    def _note(self, outcome: AttemptOutcome, why: str, upstream_error: UpstreamError = NO_UPSTREAM_ERROR) -> None:
        assert self._current is not None
        rung = self._current.to if self._current.to is not None else STATIC_ANSWER
        words = ""
        if upstream_error is not NO_UPSTREAM_ERROR:
            words = ": ".join([part for part in (upstream_error.code, upstream_error.log_message) if part])
        self.history += (AttemptRecord(rung, outcome, why, self._current.adapter, words),)
