"""The small model's part in an answer of the large one: it drafts tokens, which the large engine verifies.

No draft is ever shown. The large model's attempt is an ordinary attempt; if drafts fail, are late or are wrong, it
generates the answer alone.
"""

from collections.abc import Sequence
from contextlib import suppress
from secrets import randbits

import msgspec
import trio

from actors.api.engine_status import BackendStatus
from actors.kernel.errors import MailboxFull
from actors.prompt.continuation import params_after
from actors.prompt.model_text import TokenIds
from actors.prompt.request_text import RequestText
from actors.protocol.delivery import JobOutput, JobStarted, StreamNotice
from actors.protocol.job import DraftTokens, Enqueue, Job, Withdraw
from actors.request.ports import RequestPorts
from engine.messages import ExpectTokens, Finish, Finished, Submit, TokenDelta
from policies.cascade.verified import Draft, VerifiedMachine, draft_deadline
from policies.fallback.fallback_machine import AttemptFailed, RungRefused
from policies.model.load import Permit
from policies.model.plan import PlannedCascade


class DraftSide(msgspec.Struct, frozen=True, gc=False):
    """What one request needs to know of the small engine."""

    engine: str
    prompt: TokenIds
    """In this engine's token ids."""
    room: int
    """Context length in tokens."""
    vocab_size: int
    """Token ids below this exist in both engines."""
    adapter: str = ""
    """The adapter that it drafts with."""


class Drafter:
    """Belongs to one attempt on the large engine, with one sequence."""

    def __init__(
        self, machine: VerifiedMachine, job: Job, side: DraftSide, published: BackendStatus, ports: RequestPorts
    ) -> None:
        """`job`: the large engine's job; `published`: the large engine's status."""
        self.job = _seeded(job)
        """The attempt's job, with the first draft as soon as it is complete."""
        self.engine = side.engine
        self.machine = machine
        self.made_tokens = 0
        """By the small engine."""
        self.taken = False
        """The small engine has started a draft."""
        self._sequence = _sequence_of(self.job)
        self._side = side
        self._published = published
        self._ports = ports
        self._output: list[int] = []
        self._draft: Job | None = None
        self._permit: Permit | None = None
        self.waiting = False
        """The large engine has not started: the first draft is being made."""

    def begin(self, deadline: float) -> float | None:
        """Start the first draft. Returns until when to wait for it; None: the large engine starts at once."""
        draft = self.machine.begin(self._published.batch)
        if draft is not None:
            now = trio.current_time()
            until = draft_deadline(now, deadline)
            self._ask(draft, until)
            self.waiting = self.machine.drafting
            if self.waiting:
                return until
        return None

    def owns(self, job_id: int) -> bool:
        """Whether this is the current draft's job."""
        return self._draft is not None and self._draft.job_id == job_id

    def take(self, item: JobOutput | StreamNotice) -> None:
        """Handle an item of the current draft. `waiting` ends with the first draft."""
        match item:
            case TokenDelta(token_ids=token_ids, finish=finish):
                self.made_tokens += len(token_ids)
                self.machine.on_draft(token_ids)
                if finish is not None:
                    self._finished(finish)
            case Finished(finish=finish):
                self._finished(finish)
            case JobStarted():
                self.taken = True
            case RungRefused():
                self._end(ok=None, trouble="draft_refused")
            case AttemptFailed(rung_is_up=rung_is_up):
                self._end(ok=None if rung_is_up else False, trouble="draft_failed")
            case _:
                pass

    def hurry(self) -> None:
        """The first draft is late: the large engine starts with its tokens so far."""
        self._withdraw()
        self._end(ok=None, trouble="draft_late")

    def on_output(self, token_ids: Sequence[int], deadline: float) -> None:
        """New tokens of the large engine; the next draft may be due."""
        if self.machine.alone:
            return
        self._output += token_ids
        draft = self.machine.on_output(token_ids, self._published.batch)
        if draft is not None:
            self._ask(draft, draft_deadline(trio.current_time(), deadline))

    def close(self) -> None:
        """The large engine's attempt has ended."""
        self.waiting = False
        self._withdraw()
        self._record(ok=None)

    def _ask(self, draft: Draft, deadline: float) -> None:
        """Offer the draft to the small engine."""
        side, sequence, output = self._side, self._sequence, self._output
        prompt = (*side.prompt, *output)
        count = min(draft.tokens, side.room - len(prompt))
        self._permit = self._ports.permits.closed(side.engine)
        if count < 1 or self._permit is None:
            self._end(ok=None, trouble="no_room_to_draft" if count < 1 else "breaker_open")
            return
        params = params_after(sequence.params, len(output))
        numbers = self._ports.numbers
        submit = msgspec.structs.replace(
            sequence,
            sequence_id=next(numbers),
            prompt_token_ids=prompt,
            params=msgspec.structs.replace(params, max_tokens=count, logprobs=None, prompt_logprobs=None),
            output_prefix=len(output),
            adapter=side.adapter,
        )
        job = msgspec.structs.replace(
            self.job,
            job_id=next(numbers),
            engine=side.engine,
            prompt_tokens=len(prompt),
            tokens=len(prompt) + count,
            deadline=deadline,
            goes_on=bool(output),
            sequences=(submit,),
        )
        try:
            self._ports.dispatch.put_nowait(Enqueue(job))
        except MailboxFull:
            self._end(ok=None, trouble="draft_refused")
            return
        self._draft = job

    def _finished(self, finish: Finish) -> None:
        broken = finish.reason in {"abort", "error"}
        self._end(ok=None if broken else True, trouble="draft_failed" if broken else "")

    def _end(self, *, ok: bool | None, trouble: str) -> None:
        """The draft has ended; its tokens so far go to the large engine."""
        self._draft = None
        self._record(ok=ok)
        expect = self.machine.on_draft_end(trouble)
        first, self.waiting = self.waiting, False
        if expect is None:
            return
        token_ids = expect.token_ids
        known = next((at for at, token_id in enumerate(token_ids) if token_id >= self._side.vocab_size), len(token_ids))
        if first:
            sequence = msgspec.structs.replace(self._sequence, draft=token_ids[:known])
            self.job = msgspec.structs.replace(self.job, sequences=(sequence,))
            return
        # A draft that is not delivered only costs speed.
        with suppress(MailboxFull):
            self._ports.dispatch.put_nowait(
                DraftTokens(self.job, ExpectTokens(self._sequence.sequence_id, expect.after, token_ids[:known]))
            )

    def _withdraw(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            self._ports.dispatch.put_unbounded(Withdraw(draft))

    def _record(self, *, ok: bool | None) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            self._ports.permits.record(self._side.engine, permit, ok=ok, is_retry=False)


def _seeded(job: Job) -> Job:
    """Give both engines the same seed, so that they sample the same token wherever they agree."""
    sequence = _sequence_of(job)
    if sequence.params.seed is not None:
        return job
    params = msgspec.structs.replace(sequence.params, seed=randbits(63))
    return msgspec.structs.replace(job, sequences=(msgspec.structs.replace(sequence, params=params),))


def _sequence_of(job: Job) -> Submit:
    (sequence,) = job.sequences
    assert isinstance(sequence, Submit), "only engines that generate verify"
    return sequence


async def drafter_for(job: Job, cascade: PlannedCascade, text: RequestText, ports: RequestPorts) -> Drafter | None:
    """The drafter for a `job` of the large stage; None: the small one cannot draft. Raises InvalidRequest."""
    small, large = cascade.small.to, cascade.large.to
    assert small is not None
    assert large is not None
    limits = ports.all_published[small].limits
    large_limits = ports.all_published[large].limits
    if limits is None or large_limits is None:
        return None
    (prompt,) = await text.read_by(small)
    machine = VerifiedMachine(
        draft_tokens=cascade.draft_tokens,
        off_above_batch=cascade.off_above_batch,
        max_tokens=_sequence_of(job).params.max_tokens,
    )
    # The adapter does not affect the answer, which is the large engine's: a draft without it is better than none.
    adapter = cascade.small.adapter if cascade.small.adapter in ports.all_published[small].adapters else ""
    vocab_size = min(limits.vocab_size, large_limits.vocab_size)
    side = DraftSide(small, prompt, limits.max_model_len, vocab_size, adapter)
    return Drafter(machine, job, side, ports.all_published[large], ports)
