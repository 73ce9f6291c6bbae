"""One try of one rung: its job, and how the job's outputs become part of the answer."""

from collections.abc import Mapping
from typing import Literal

from actors.api.response import Delta, EndReason, MadeCall
from actors.prompt.continuation import ContinuationDetokenizer
from actors.prompt.tool_call_reader import ToolCallReader
from actors.protocol.delivery import JobOutput, JobStarted, StreamNotice, TextDelta
from actors.protocol.job import Job
from actors.request.draft_verification import Drafter
from engine.core.messages import Embedding, Finish, Finished, TokenDelta
from policies.answer.answer_effects import MachineAttempt
from policies.cascade.cascade import Accept, CascadeMachine, Escalate, Release

AssemblyVerdict = Literal["going", "complete", "escalate", "broken"]


class OutputAssembly:
    """Feed it every output of the attempt, in order."""

    def __init__(
        self,
        choices: Mapping[int, int],
        machine: CascadeMachine | None = None,
        seams: Mapping[int, ContinuationDetokenizer] | None = None,
        readers: Mapping[int, ToolCallReader] | None = None,
        call_prefix: str = "",
    ) -> None:
        """`choices`: the choice that each sequence answers. `seams`: by choice, where it goes on from another rung.

        `readers`: by choice, if its text may hold tool calls. `call_prefix`: of the ids of calls that come as such.
        """
        self._choices = dict(choices)
        self._machine = machine
        self._held: dict[int, list[Delta]] = {index: [] for index in choices.values()} if machine else {}
        self._seen: dict[int, int] = dict.fromkeys(self._held, 0)
        """Outputs of a choice that were shown."""
        self._seams = dict(seams or {})
        self._readers = dict(readers or {})
        self._call_prefix = call_prefix
        self._unshown: dict[int, int] = {}
        """By choice: tokens that were only counted, and are told of with the next ones."""
        self._unfinished = len(choices)
        self.why = ""
        """Why it escalated or was accepted."""
        self.broken: Finish | None = None
        """The engine ended a sequence without a true end."""
        self.tokens = 0
        """That the engine made for this attempt."""
        self.cached: dict[int, int] = {}
        """By choice: prompt tokens that the prefix cache supplied."""
        self.drafted = 0
        """Tokens that the engine was, or made itself, expect."""
        self.accepted = 0
        self.adapter_version = 0
        """Of the adapter that the engine answered with."""
        self._margins: dict[int, list[float]] = {index: [] for index in self._held}
        self.prompts: dict[int, int] = {}
        """By choice: prompt tokens that were read for it."""
        self.model = ""
        """As an upstream names it."""
        self.word = ""
        """An upstream's own finish reason, if it is none that is known."""

    @property
    def margin(self) -> float | None:
        """The cascade's statistic of what came, in nats."""
        return self._machine.statistic if self._machine is not None and self.tokens else None

    @property
    def margins(self) -> list[float]:
        """Of the least sure choice, if a cascade looks at it."""
        return [] if self._machine is None else self._margins[self._machine.least_sure]

    def feed(self, output: JobOutput, shown: list[Delta]) -> AssemblyVerdict:
        """Append to `shown` what may be shown now. After any verdict but "going" the attempt is over."""
        index = self._choices.get(output.sequence_id)
        if index is None:
            return "going"
        if isinstance(output, TokenDelta):
            self.tokens += len(output.token_ids)
            if self._seams and (continuation := self._seams.get(index)) is not None:
                output = continuation.carry_on(output)
        elif isinstance(output, TextDelta):
            self.tokens += output.token_count
        finish = output.finish
        if finish is not None:
            if finish.reason in {"abort", "error"}:
                self.broken = finish
                return "broken"
            self._end(index, output.sequence_id, finish)
        match output:
            case TokenDelta():
                delta = _of_engine(index, output)
            case TextDelta():
                if not (output.text or output.reasoning or output.logprobs or finish):
                    self._unshown[index] = self._unshown.get(index, 0) + output.token_count
                    return "going"
                delta = self._of_upstream(index, output)
            case Embedding(vector=vector, finish=end):
                delta = Delta(index, "", (), (), end.reason, embedding=vector)
            case Finished(finish=end):
                delta = Delta(index, "", (), (), end.reason, end.stop)
        reader = self._readers.get(index)
        if reader is not None:
            delta = reader.read(delta)
        if self._machine is None or not isinstance(output, TokenDelta):
            ready = delta if reader is None else reader.gather(delta)
            if ready is not None:
                shown.append(ready)
            return "going" if self._unfinished else "complete"
        return self._judge(self._machine, delta, output, reader, shown)

    def _end(self, index: int, sequence_id: int, finish: Finish) -> None:
        del self._choices[sequence_id]
        self._unfinished -= 1
        self.cached[index] = finish.cached_tokens
        self.drafted += finish.drafted_tokens
        self.accepted += finish.accepted_tokens
        self.adapter_version = finish.adapter_version
        self.prompts[index] = finish.prompt_tokens

    def _of_upstream(self, index: int, output: TextDelta) -> Delta:
        """Tokens without ids, and calls that came as such, all at once."""
        self.model = output.model or self.model
        self.word = output.upstream_finish or self.word
        calls = tuple(
            [
                # An upstream may know its own ids only: they come back to it with the next turn.
                MadeCall(
                    number, call.id or f"{self._call_prefix}{index}_{number}", call.name, call.arguments, call.extra
                )
                for number, call in enumerate(output.tool_calls)
            ]
        )
        finish = output.finish
        reason: EndReason | None = None if finish is None else finish.reason
        return Delta(
            index,
            output.text,
            (),
            output.logprobs,
            "tool_calls" if calls and reason == "stop" else reason,
            None if finish is None else finish.stop,
            unnamed=output.token_count + self._unshown.pop(index, 0),
            calls=calls,
            reasoning=output.reasoning,
        )

    def _judge(
        self,
        machine: CascadeMachine,
        delta: Delta,
        output: TokenDelta,
        reader: ToolCallReader | None,
        shown: list[Delta],
    ) -> AssemblyVerdict:
        index = delta.index
        self._held[index].append(delta)
        self._margins[index] += output.margins
        effects = machine.on_output(
            index,
            output.token_ids,
            "" if reader is not None and reader.holding else delta.text,
            output.margins,
            finish=output.finish is not None,
            opens_call=reader is not None and reader.opened,
        )
        for effect in effects:
            match effect:
                case Release(choice, _, outputs):
                    count = outputs - self._seen[choice]
                    shown += self._held[choice][:count]
                    del self._held[choice][:count]
                    self._seen[choice] = outputs
                case Escalate(why=why):
                    self.why = why
                    return "escalate"
                case Accept(why):
                    self.why = why
                    return "complete"
        return "going"


def _of_engine(index: int, output: TokenDelta) -> Delta:
    finish = output.finish
    if finish is None and not output.prompt_logprobs:
        return Delta(index, output.text, output.token_ids, output.logprobs)
    return Delta(
        index,
        output.text,
        output.token_ids,
        output.logprobs,
        None if finish is None else finish.reason,
        None if finish is None else finish.stop,
        prompt_logprobs=output.prompt_logprobs,
    )


class Attempt:
    """A try under way."""

    __slots__ = (
        "adapter",
        "assembly",
        "drafter",
        "job",
        "model",
        "of",
        "rung",
        "unread_tokens",
        "whole_in_engine",
    )

    def __init__(
        self,
        of: MachineAttempt,
        job: Job,
        assembly: OutputAssembly,
        *,
        whole_in_engine: bool,
        model: str = "",
    ) -> None:
        """`of`: what the answer machine knows of it. `model`: that an upstream was asked for."""
        self.of = of
        self.rung = of.rung
        self.model = model or of.rung
        self.adapter = of.wanted.adapter
        self.job = job
        self.assembly = assembly
        self.whole_in_engine = whole_in_engine
        """The engine itself sees the end of each sequence; else it may have to be told."""
        self.drafter: Drafter | None = None
        """Of the large stage whose small stage drafts for it."""
        self.unread_tokens = 0
        """That were made for it, and that its reader left behind."""

    def owns(self, job_id: int) -> bool:
        """Whether this work is done for it: its own, or a draft."""
        return job_id == self.job.job_id or (self.drafter is not None and self.drafter.owns(job_id))

    def count(self, job_id: int, item: JobOutput | StreamNotice) -> None:
        """Its reader has left and will not read this item of its own work or its draft's."""
        tokens = 0
        match item:
            case TokenDelta(token_ids=token_ids):
                tokens = len(token_ids)
            case TextDelta(token_count=count):
                tokens = count
        if job_id == self.job.job_id:
            self.of.has_started = self.of.has_started or isinstance(item, JobStarted)
            self.unread_tokens += tokens
        elif self.drafter is not None:
            self.drafter.taken = self.drafter.taken or isinstance(item, JobStarted)
            self.drafter.made_tokens += tokens

    def quiet(self, *, streamed: bool) -> bool:
        """Only ends matter to the reader: nothing is shown before them, and nothing is to be decided."""
        if self.drafter is not None and not self.drafter.machine.alone:
            return self.drafter.waiting
        return not streamed and self.of.cascade is None and self.whole_in_engine
