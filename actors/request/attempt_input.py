"""Handles the outputs and notices of an attempt, and of its draft, for the answer machine."""

from actors.api.response import Delta
from actors.kernel.timers import Timer
from actors.protocol.delivery import (
    Delivery,
    Item,
    JobOutput,
    JobStarted,
    StreamNotice,
    Terminate,
)
from actors.request.account import Account
from actors.request.attempt import AssemblyVerdict, Attempt
from actors.request.response_builder import ResponseBuilder
from engine.messages import TokenDelta
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.fallback_machine import AttemptFailed, RungRefused


class AttemptInput:
    """Handles the outputs of one response: reports them to the machine, the account and the builder."""

    __slots__ = ("_account", "_builder", "_delivery", "_machine", "_watch")

    def __init__(
        self, account: Account, *, machine: AnswerMachine, builder: ResponseBuilder, delivery: Delivery, watch: Timer
    ) -> None:
        self._account = account
        self._machine = machine
        self._builder = builder
        self._delivery = delivery
        self._watch = watch

    def absorb(self, attempt: Attempt, items: list[Item], now: float) -> Terminate | None:
        """Handle items and check the deadlines. A returned notice ends the answer from outside."""
        machine, of, drafter = self._machine, attempt.of, attempt.drafter
        for position, (job_id, item) in enumerate(items, 1):
            if drafter is not None and drafter.owns(job_id):
                waited = drafter.waiting
                self._account.worked = self._account.worked or isinstance(item, JobStarted)
                drafter.take(item)
                if waited and not drafter.waiting:
                    machine.draft_ready()
            elif isinstance(item, JobOutput):
                if job_id == attempt.job.job_id:
                    self._output(attempt, item, now)
            elif job_id in {attempt.job.job_id, 0}:
                if isinstance(item, Terminate):
                    return item
                self._notice(item, now)
            if machine.attempt is not of:
                # The attempt has ended: later items are for the next one, or are dropped there.
                self._delivery.put_back(items[position:])
                return None
        if self._delivery.overrun:
            return None
        if drafter is not None and drafter.waiting and now >= machine.due:
            drafter.hurry()
            machine.draft_ready()
        else:
            machine.on_deadline(now)
        self._account.ports.timers.move(self._watch, machine.due)
        return None

    def show(self, attempt: Attempt, deltas: list[Delta], now: float) -> None:
        first_at = self._delivery.first_at
        if first_at is None or not attempt.quiet(streamed=self._builder.streamed):
            # Otherwise the content was there before its reader woke, since `first_at`.
            first_at = now
        self._builder.show(deltas, attempt, first_at, now)

    def _output(self, attempt: Attempt, output: JobOutput, now: float) -> None:
        machine, assembly, drafter = self._machine, attempt.assembly, attempt.drafter
        machine.on_output(now, self._delivery.first_at)
        if drafter is not None and isinstance(output, TokenDelta) and output.finish is None:
            drafter.on_output(output.token_ids, self._account.plan.total_at)
        shown: list[Delta] = []
        self._decide(attempt, assembly.feed(output, shown), shown, now)

    def judged(self, attempt: Attempt, holds: float | None, now: float) -> None:
        """The judge has read the answer of the machine's attempt; None: it could not."""
        shown: list[Delta] = []
        self._decide(attempt, attempt.assembly.judged(holds, shown), shown, now)

    def _decide(self, attempt: Attempt, verdict: AssemblyVerdict, shown: list[Delta], now: float) -> None:
        machine, assembly, drafter = self._machine, attempt.assembly, attempt.drafter
        if shown:
            self.show(attempt, shown, now)
        match verdict:
            case "going":
                pass
            case "complete":
                draft_reason = "" if drafter is None else drafter.machine.why
                machine.on_complete(
                    now, ended=attempt.whole_in_engine, cascade_reason=assembly.why, draft_reason=draft_reason
                )
            case "judge":
                machine.on_whole(now)
            case "escalate":
                self._account.ports.counters.escalations[self._account.plan.route, assembly.why] += 1
                machine.on_escalated(assembly.why, now)
            case "broken":
                broken = assembly.broken
                assert broken is not None
                if broken.code == "adapter_not_loaded":
                    # It was unloaded between our look and the engine's.
                    refused = RungRefused(why=broken.code, message=broken.message, lasting=True)
                    machine.on_refused_by_engine(refused, now)
                    return
                fatal = broken.reason == "error"
                failed = AttemptFailed(
                    kind=broken.code or "aborted", retryable=False, fatal=fatal, message=broken.message
                )
                machine.on_failed(failed, now, ok=None, ended=False)

    def _notice(self, notice: StreamNotice, now: float) -> None:
        machine = self._machine
        match notice:
            case JobStarted(at):
                machine.on_started(at)
                self._account.worked = True
                self._account.taken_at = self._account.taken_at or at
                if self._account.request.batch is None:
                    self._account.ports.counters.queue_wait.add(max(at - self._account.request.arrived_at, 0.0))
            case RungRefused():
                machine.on_rejected(notice, now)
            case AttemptFailed():
                # A crash is one event, however many answers it breaks off: the supervisor counts it.
                no_evidence = notice.rung_is_up or notice.restarts or notice.fatal
                machine.on_failed(notice, now, ok=None if no_evidence else False, ended=True)
            case Terminate():
                raise AssertionError("it ends the answer, not the attempt")
