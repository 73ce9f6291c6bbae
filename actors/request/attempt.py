"""One try of one rung: its job, and how the job's outputs become part of the answer."""

from collections.abc import Iterable, Mapping
from typing import Literal

from actors.api.response import CascadeTrace, Delta, EndReason, MadeCall
from actors.prompt.continuation import ContinuationDetokenizer
from actors.prompt.reasoning_reader import ReasoningReader
from actors.prompt.tool_call_reader import ToolCallReader
from actors.protocol.delivery import JobOutput, JobStarted, StreamNotice, TextDelta
from actors.protocol.job import Job
from actors.request.cascade_tracer import CascadeTracer
from actors.request.draft_verification import Drafter
from actors.request.text_judge import readable
from engine.messages import Embedding, Finish, Finished, TokenDelta
from policies.answer.answer_effects import MachineAttempt
from policies.cascade.cascade import Accept, AskJudge, CascadeEffect, CascadeMachine, Escalate, Release

AssemblyVerdict = Literal["going", "complete", "escalate", "judge", "broken"]


class OutputAssembly:
    """What may be shown of one attempt's outputs, and whether the attempt has decided. Sans-IO.

    Feed it every output in order. Without a cascade machine everything is shown as it comes.
    """

    def __init__(
        self,
        choices: Mapping[int, int],
        machine: CascadeMachine | None = None,
        continuations: Mapping[int, ContinuationDetokenizer] | None = None,
        readers: Mapping[int, ToolCallReader] | None = None,
        *,
        call_prefix: str = "",
        thinking: Mapping[int, ReasoningReader] | None = None,
        tracer: CascadeTracer | None = None,
    ) -> None:
        """`choices`: by sequence. `continuations`: by choice, if it continues another rung's output.

        `readers`: by choice, if its text may hold tool calls. `call_prefix`: of the ids of an upstream's tool calls.
        `thinking`: by choice, if its text may begin with reasoning. `tracer`: notes what the machine sees.
        """
        self._choices = dict(choices)
        self._machine = machine
        self._held: dict[int, list[Delta]] = {index: [] for index in choices.values()} if machine else {}
        self._seen: dict[int, int] = dict.fromkeys(self._held, 0)
        """By choice: number of outputs that were shown."""
        self._continuations = continuations or {}
        self._readers = readers or {}
        self._call_prefix = call_prefix
        self._thinking = thinking or {}
        self._tracer = tracer
        self._unshown: dict[int, int] = {}
        """By choice: tokens without text, which are reported with the next delta."""
        self._unfinished = len(choices)
        self.why = ""
        """Reason code of the escalation or acceptance."""
        self.broken: Finish | None = None
        """The engine ended a sequence with an abort or an error."""
        self.tokens = 0
        """Made by the engine for this attempt."""
        self.cached: dict[int, int] = {}
        """By choice: prompt tokens that the prefix cache supplied."""
        self.drafted = 0
        """Draft tokens, given to the engine or made by it."""
        self.accepted = 0
        self.adapter_version = 0
        """Of the adapter that the engine used."""
        self._margins: dict[int, list[float]] = {index: [] for index in self._held}
        self.prompts: dict[int, int] = {}
        """By choice: prompt tokens."""
        self.model = ""
        """The model's name as an upstream sends it."""
        self.upstream_finish = ""
        """An upstream's own finish reason, if it is an unknown one."""

    @property
    def margin(self) -> float | None:
        """The cascade's statistic so far, in nats."""
        return self._machine.statistic if self._machine is not None and self.tokens else None

    @property
    def margins(self) -> list[float]:
        """Of the least sure choice, in a cascade."""
        return [] if self._machine is None else self._margins[self._machine.least_sure]

    @property
    def trace(self) -> CascadeTrace | None:
        """What the cascade has seen of the least sure choice, if that is noted."""
        if self._machine is None or self._tracer is None:
            return None
        return self._tracer.trace(self._machine.least_sure)

    @property
    def reasoning_capped(self) -> bool:
        """The reasoning of a choice was ended by its cap."""
        return any(reader.capped for reader in self._thinking.values())

    @property
    def holds_back(self) -> bool:
        """A tool call is being made, of which nothing is shown before it is whole."""
        return any(self._unshown.values()) or any(reader.holding for reader in self._readers.values())

    def feed(self, output: JobOutput, shown: list[Delta]) -> AssemblyVerdict:
        """Append to `shown` what may be shown now. After any verdict but "going" the attempt has ended."""
        index = self._choices.get(output.sequence_id)
        if index is None:
            return "going"
        if isinstance(output, TokenDelta):
            self.tokens += len(output.token_ids)
            if self._continuations and (continuation := self._continuations.get(index)) is not None:
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
                if not (output.text or output.reasoning or output.logprobs or output.extras or finish):
                    self._unshown[index] = self._unshown.get(index, 0) + output.token_count
                    return "going"
                delta = self._of_upstream(index, output)
            case Embedding(vector=vector, finish=end):
                delta = Delta(index, "", (), (), end.reason, embedding=vector)
            case Finished(finish=end):
                delta = Delta(index, "", (), (), end.reason, end.stop)
        thought = self._thinking.get(index)
        if thought is not None:
            delta = thought.read(delta)
        reader = self._readers.get(index)
        if reader is not None:
            delta = reader.read(delta)
        machine = self._machine
        # Of an upstream there are no margins: only a judge can decide about its answer.
        if machine is None or not (isinstance(output, TokenDelta) or machine.has_judge):
            ready = delta if reader is None else reader.gather(delta)
            if ready is not None:
                shown.append(ready)
            return "going" if self._unfinished else "complete"
        return self._watch(machine, delta, output, reader, shown)

    @property
    def answers(self) -> list[str]:
        """What the judge is to read, by choice: the text, and tool calls as they are."""
        return ["".join([readable(delta) for delta in held]) for held in self._held.values()]

    def judged(self, holds: float | None, shown: list[Delta]) -> AssemblyVerdict:
        """After the verdict "judge": see `CascadeMachine.judged`."""
        assert self._machine is not None
        return self._apply(self._machine.judged(holds), shown)

    def _end(self, index: int, sequence_id: int, finish: Finish) -> None:
        del self._choices[sequence_id]
        self._unfinished -= 1
        self.cached[index] = finish.cached_tokens
        self.drafted += finish.drafted_tokens
        self.accepted += finish.accepted_tokens
        self.adapter_version = finish.adapter_version
        self.prompts[index] = finish.prompt_tokens

    def _of_upstream(self, index: int, output: TextDelta) -> Delta:
        """Text without token ids, and tool calls."""
        self.model = output.model or self.model
        self.upstream_finish = output.upstream_finish or self.upstream_finish
        calls: tuple[MadeCall, ...] = ()
        if output.tool_calls:
            # An upstream may accept only its own ids, which come back with the next turn.
            prefix = f"{self._call_prefix}{index}_"
            calls = tuple(
                [
                    MadeCall(number, call.id or f"{prefix}{number}", call.name, call.arguments, call.extra)
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
            reasoning_tokens=0 if finish is None else finish.reasoning_tokens,
            refuses=output.refuses,
            extras=output.extras,
        )

    def _watch(
        self,
        machine: CascadeMachine,
        delta: Delta,
        output: JobOutput,
        reader: ToolCallReader | None,
        shown: list[Delta],
    ) -> AssemblyVerdict:
        index = delta.index
        token_ids, margins = (output.token_ids, output.margins) if isinstance(output, TokenDelta) else ((), ())
        self._held[index].append(delta)
        self._margins[index] += margins
        # What still comes after an escalation was not judged.
        tracer = None if machine.decided else self._tracer
        effects = machine.on_output(
            index,
            token_ids,
            "" if reader is not None and reader.holding else delta.reasoning + delta.text,
            margins,
            finish=output.finish is not None,
            opens_call=reader is not None and reader.opened,
        )
        if tracer is not None:
            text = output.text if isinstance(output, TokenDelta | TextDelta) else ""
            tracer.note(index, text, margins, machine.statistic_of(index))
        return self._apply(effects, shown)

    def _apply(self, effects: Iterable[CascadeEffect], shown: list[Delta]) -> AssemblyVerdict:
        for effect in effects:
            match effect:
                case Release(choice, _, outputs):
                    count = outputs - self._seen[choice]
                    shown += self._held[choice][:count]
                    del self._held[choice][:count]
                    self._seen[choice] = outputs
                    if self._tracer is not None:
                        self._tracer.released(choice, outputs)
                case AskJudge():
                    return "judge"
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
    """One attempt."""

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
        """`of`: the answer machine's view of it. `model`: the name that was sent to an upstream."""
        self.of = of
        self.rung = of.rung
        self.model = model or of.rung
        self.adapter = of.wanted.adapter
        self.job = job
        self.assembly = assembly
        self.whole_in_engine = whole_in_engine
        """The engine itself detects the end of every sequence; otherwise the job may have to be withdrawn."""
        self.drafter: Drafter | None = None
        """Of a large stage whose small stage drafts for it."""
        self.unread_tokens = 0
        """Tokens that its reader has left unread."""

    def owns(self, job_id: int) -> bool:
        """Whether this is its job or its draft's."""
        return job_id == self.job.job_id or (self.drafter is not None and self.drafter.owns(job_id))

    def count(self, job_id: int, item: JobOutput | StreamNotice) -> None:
        """Count an item, of its job or its draft's, that the reader has left unread."""
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
        """Whether the reader may sleep until an end: nothing is shown or decided before it."""
        if self.drafter is not None and not self.drafter.machine.alone:
            return self.drafter.waiting
        return not streamed and self.of.cascade is None and self.whole_in_engine
