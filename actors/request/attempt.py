"""One try of one rung, prepared: the sequences for its engine, and how their outputs become the answer."""

from collections.abc import Sequence
from itertools import count

import msgspec

from actors.api.request import InferenceRequest, Principal
from actors.api.response import Delta
from actors.prompt.continuation import ContinuationDetokenizer, params_after
from actors.prompt.model_text import ModelText, TokenIds
from actors.prompt.output_constraints import OutputConstraints
from actors.prompt.tool_call_reader import ToolCallReader
from actors.protocol.delivery import Delivery, JobOutput, JobStarted, StreamNotice, TextDelta
from actors.protocol.job import Job
from actors.request.account import EmittedChoice
from actors.request.draft_verification import Drafter
from actors.request.output_assembly import OutputAssembly
from engine.core.limits import EngineLimits
from engine.core.messages import Submit, TokenDelta
from engine.sampling.params import SamplingParams
from policies.answer.answer_effects import MachineAttempt
from policies.fallback.fallback_machine import Prefix
from policies.model.plan import Plan
from policies.routing.token_budget import tokens_at


class TooLongHere(Exception):  # noqa: N818  (a fact about a rung)
    """Prompt and output do not fit into this engine."""


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


def prepare(
    of: MachineAttempt,
    *,
    request: InferenceRequest,
    plan: Plan,
    principal: Principal,
    prompts: Sequence[TokenIds],
    told: Sequence[EmittedChoice],
    text: ModelText,
    shape: OutputConstraints,
    limits: EngineLimits,
    delivery: Delivery,
    numbers: "count[int]",
) -> tuple[Attempt, list[Delta]]:
    """The attempt, and what can be said before it begins: ends that the client has not been told of.

    Raises TooLongHere.
    """
    sequences: list[Submit] = []
    choices: dict[int, int] = {}
    seams: dict[int, ContinuationDetokenizer] = {}
    readers: dict[int, ToolCallReader] = {}
    ended: list[Delta] = []
    for index, was_told in enumerate(told):
        if was_told.finished:
            continue
        prompt = prompts[index // request.body.n]
        params = params_of(request, plan, index % request.body.n, len(prompt), limits)
        prefix = _prefix(of.wanted.prefix, index)
        if prefix:
            said, bound = "".join(was_told.texts), shape.grammar is not None
            continuation = ContinuationDetokenizer(params, text.tokenizer, prompt, prefix, said, exact=bound)
            if continuation.ended:
                rest, reason, stop = continuation.rest()
                ended.append(Delta(index, rest, (), (), reason, stop))
                continue
            seams[index] = continuation
            prompt += prefix
            params = params_after(params, len(prefix))
        if shape.style is not None and request.body.tools is not None:
            readers[index] = ToolCallReader(
                shape.style,
                request.body.tools.names,
                id_prefix=f"call_{request.request_id}_{index}_",
                goes_on=bool(prefix),
            )
        number = next(numbers)
        choices[number] = index
        sequences.append(
            Submit(
                sequence_id=number,
                prompt_token_ids=prompt,
                params=params,
                priority=principal.priority,
                output_prefix=len(prefix),
                cache_salt=principal.cache_salt,
                grammar=shape.grammar,
                adapter=of.wanted.adapter,
            )
        )
    prompt_tokens = sum([len(each.prompt_token_ids) for each in sequences])
    job = Job(
        job_id=next(numbers),
        engine=of.rung,
        tenant=principal.line,
        prompt_tokens=prompt_tokens,
        tokens=prompt_tokens + sum([each.params.max_tokens for each in sequences]),
        bytes=request.body_bytes,
        deadline=of.wanted.deadline,
        wait_s=plan.queue_s,
        goes_on=any(of.wanted.prefix),
        sequences=tuple(sequences),
        delivery=delivery,
    )
    assembly = OutputAssembly(choices, of.cascade, seams, readers)
    return Attempt(of, job, assembly, whole_in_engine=not seams), ended


def params_of(
    request: InferenceRequest, plan: Plan, choice: int, prompt_tokens: int, limits: EngineLimits
) -> SamplingParams:
    """What a choice asks of this rung. Raises TooLongHere."""
    params = request.body.params
    room = limits.max_model_len - prompt_tokens
    if params.prompt_only:
        if room < 0:
            raise TooLongHere
        return params
    asked = tokens_at(params.max_tokens, plan.output_cap, room)
    if asked is None:
        raise TooLongHere
    asked = asked or min(room, limits.default_output_tokens or room)
    seed = params.seed
    if choice and seed is not None:
        seed += choice
    if asked == params.max_tokens and seed == params.seed:
        return params
    return msgspec.structs.replace(params, max_tokens=asked, seed=seed)


def _prefix(prefix: Prefix, index: int) -> TokenIds:
    return prefix[index] if prefix else ()
