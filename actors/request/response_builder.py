"""Builds the events of a response, and its summary of how the request was served."""

from collections.abc import Sequence

import msgspec

from actors.api.errors import ErrorBody
from actors.api.extra_fields import is_answer
from actors.api.response import AttemptSummary, Delta, Done, Failed, ResponseEvent, Served, Start, Usage
from actors.prompt.request_text import RequestText
from actors.request.account import Account
from actors.request.attempt import Attempt
from actors.request.text_judge import readable
from config.model.words import STATIC_ANSWER
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.fallback_machine import AnswerStatic, Begun


class ResponseBuilder:
    """Collects `events` until the response's task hands them out."""

    def __init__(self, account: Account, text: RequestText, machine: AnswerMachine) -> None:
        self.events: list[ResponseEvent] = []
        self.started = False
        """The client has received the start of the answer, and an HTTP status."""
        self._account = account
        self._request = account.request
        self.streamed = account.request.body.streamed
        """Content is sent as it comes, and not with the whole answer."""
        self.read: dict[int, list[str]] | None = None
        """By choice: what a guardrail is to read; None: none is."""
        self._plan = account.plan
        self._ports = account.ports
        self._text = text
        self._machine = machine
        self._held: list[Delta] = []
        """Of an answer that is not streamed, until its end."""
        self._answer_sent = False
        """Part of the answer itself was sent, not only reasoning."""
        self._drafts = (0, 0)
        """Of the last attempt: tokens drafted, tokens accepted."""
        self._reported_tokens = 0
        """Of its prompts, as its upstream counts them; 0: by none."""
        self._cached_tokens = 0
        """Of its prompts, from a prefix cache."""
        self._model = ""
        """The model that answered last."""
        self._reasoning_capped = False
        self._upstream_finish: str | None = None
        """Its upstream's finish reason, if it is an unknown one."""
        self._has_tools = account.request.body.tools is not None
        self.last_at = account.request.arrived_at
        """When content was last shown."""

    def forget(self) -> None:
        """Discard what was shown: the client has received none of it."""
        self._account.forget()
        self._held = []
        self._reasoning_capped = False
        if self.read:
            self.read.clear()

    def attempt_ended(self, attempt: Attempt, *, ok: bool | None, client_left: bool) -> None:
        """Charge it. A client that leaves, or reads too slowly, is charged for a started attempt."""
        account, assembly, drafter = self._account, attempt.assembly, attempt.drafter
        made_tokens = assembly.tokens + attempt.unread_tokens
        account.made_tokens += made_tokens
        prompt_tokens = attempt.job.prompt_tokens // self._request.body.n
        self._reported_tokens = account.once(assembly.prompts) if attempt.rung in self._ports.upstreams else 0
        self._cached_tokens = account.once(assembly.cached)
        prompt_tokens = self._reported_tokens or prompt_tokens
        if ok or (client_left and attempt.of.has_started):
            account.pay(attempt.rung, prompt_tokens, self._cached_tokens, made_tokens)
        if drafter is not None:
            account.made_tokens += drafter.made_tokens
            if drafter.taken and (ok or client_left):
                account.pay(drafter.engine, prompt_tokens, 0, drafter.made_tokens)
        if self._ports.recording is not None:
            account.observe(attempt.job, assembly.margins)
        if attempt.of.cascade is not None:
            account.margin = assembly.margin
            account.cascade_trace = assembly.trace
        self._drafts = assembly.drafted, assembly.accepted
        self._reasoning_capped = self._reasoning_capped or assembly.reasoning_capped
        self._model = assembly.model or attempt.model
        self._upstream_finish = assembly.upstream_finish or None
        version = assembly.adapter_version
        account.adapter = f"{attempt.adapter}@{version}" if version else attempt.adapter

    def take_over(self, events: Sequence[ResponseEvent]) -> Begun:
        """The client has these events of the answer, from a process that has ended."""
        start = next(event for event in events if isinstance(event, Start))
        deltas = [event for event in events if isinstance(event, Delta)]
        text = next((text for text in self._ports.texts.values() if text.digest == start.tokenizer), None)
        self.started = True
        self._answer_sent = any(_is_answer(delta) for delta in deltas)
        return Begun(
            rung=start.rung,
            prefix=self._account.prefix(text.tokenizer if text is not None else None),
            tokenizer=start.tokenizer,
            atomic=self._is_atomic(deltas),
            answer=self._answer_sent,
        )

    # --- content ------------------------------------------------------------------------------------------------

    def show(self, deltas: list[Delta], attempt: Attempt, content_at: float, now: float) -> None:
        """Add content, to be sent at once or with the whole answer. `content_at`: when it was there."""
        count = self._account.emit(deltas)
        if self._account.first_content_at is None:
            self._account.first_content_at = content_at
        if self.read is not None:
            deltas = [_without_unread(delta) for delta in deltas]
            for delta in deltas:
                self.read.setdefault(delta.index, []).append(readable(delta))
        if not self.streamed:
            self._held += deltas
            return
        if not self.started:
            self.started = True
            self._ports.counters.ttft.add(now - self._request.arrived_at)
            self._account.first_at = now
            self._start(attempt.rung, self._account.prompt_tokens, attempt)
            self._commit(deltas, now)
        else:
            if self._has_tools or not self._answer_sent:
                self._commit(deltas, now)
            if count > 0:
                self._ports.counters.itl.add((now - self.last_at) / count)
        self.last_at = now
        self.events += deltas

    def _commit(self, deltas: list[Delta], now: float) -> None:
        self._answer_sent = self._answer_sent or any(_is_answer(delta) for delta in deltas)
        self._machine.content_sent(now, atomic=self._is_atomic(deltas), answer=self._answer_sent)

    def _is_atomic(self, deltas: list[Delta]) -> bool:
        kind = "tool_calls" if any(delta.calls for delta in deltas) else self._request.body.bound_to
        cascade = self._plan.cascade
        return kind is not None and (cascade is None or kind in cascade.atomic)

    def _start(self, rung: str, prompt_tokens: int, attempt: Attempt | None) -> None:
        """`attempt` None: a static answer."""
        request = self._request
        adapter, model = "", ""
        if attempt is not None:
            adapter, model = attempt.adapter, attempt.assembly.model or attempt.model
        echo = self._text.shown(rung) if request.body.view.echo else ()
        self.events.append(
            Start(
                self._plan.route,
                rung,
                prompt_tokens,
                tuple([text for text in echo for _ in range(request.body.n)]),
                adapter,
                self._machine.mark,
                self._machine.degraded(rung),
                self._account.downgraded_to,
                request.body.model,
                model,
                text.digest if (text := self._ports.texts.get(rung)) is not None else "",
            )
        )

    # --- ends ---------------------------------------------------------------------------------------------------

    def complete(self, attempt: Attempt, reason: str) -> None:
        """After `attempt_ended`."""
        if not self.streamed:
            self._start(attempt.rung, self._account.prompt_tokens, attempt)
            self.events += self._held
        account = self._account
        if self._reported_tokens and not attempt.job.goes_on:
            # It replaces our own count.
            account.prompt_tokens = self._reported_tokens
        account.cached_tokens = self._cached_tokens
        self.events.append(Done(account.usage(), self._served(attempt.rung, reason, self._machine.mark)))

    def answer(self, static: AnswerStatic, now: float) -> None:
        """Answer with a static text."""
        # Of an answer that is not streamed, output of earlier attempts is discarded.
        self.forget()
        account = self._account
        account.worked = False
        account.adapter = self._model = ""
        self._upstream_finish = None
        account.first_content_at = now
        if self.streamed:
            account.first_at = now
        self._start(STATIC_ANSWER, 0, None)
        self.events += [Delta(index, static.text, (), (), "stop") for index in range(len(account.emitted))]
        self.events.append(Done(Usage(0, 0), self._served(STATIC_ANSWER, self._machine.reason, static.mark)))

    def fail(self, error: ErrorBody) -> None:
        served = self._served(self._machine.rung, error.code, None)
        self.events.append(Failed(error, self._account.usage(), served))

    def _served(self, rung: str, reason: str, mark: str | None) -> Served:
        plan = self._plan
        experiment, arm = (plan.experiment, plan.arm) if plan.arm else (None, None)
        served = Served(
            plan.route,
            rung,
            reason,
            tuple([AttemptSummary(note.rung, note.outcome, note.why) for note in self._machine.history]),
            mark,
            self._account.margin,
            self._account.judged,
            *self._drafts,
            plan.policy,
            experiment,
            arm,
            self._account.adapter or None,
            self._machine.degraded(rung),
            self._account.downgraded_to,
            self._request.body.model,
            self._model,
            self._upstream_finish,
            self._account.timings(self._account.ports.clock()),
            self._account.reasoning_capped_by if self._reasoning_capped else None,
        )
        return self._explained(served) if self._request.body.view.explain else served

    def _explained(self, served: Served) -> Served:
        account = self._account
        cost = account.cost if account.snapshot.policy.prices else None
        return msgspec.structs.replace(served, cost=cost, cascade=account.cascade_trace)


def _is_answer(delta: Delta) -> bool:
    """It holds more than reasoning."""
    if delta.text or delta.token_ids or delta.logprobs or delta.calls or delta.finish_reason:
        return True
    return delta.extras is not None and is_answer(delta.extras.message)


def _without_unread(delta: Delta) -> Delta:
    """Without the parts of its message that no guardrail reads."""
    if delta.extras is None or not delta.extras.message:
        return delta
    return msgspec.structs.replace(delta, extras=msgspec.structs.replace(delta.extras, message={}))
