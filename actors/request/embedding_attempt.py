"""One try of one encoder: all inputs of a request, each a choice whose answer comes whole."""

from collections.abc import Sequence
from itertools import count

from actors.api.request import InferenceRequest, Principal
from actors.prompt.model_text import TokenIds
from actors.protocol.delivery import Delivery
from actors.protocol.job import Job
from actors.request.attempt import Attempt, TooLongHere
from actors.request.output_assembly import OutputAssembly
from engine.core.limits import EngineLimits
from engine.messages import Embed
from policies.answer.answer_effects import MachineAttempt
from policies.model.plan import Plan


def prepare_inputs(
    of: MachineAttempt,
    *,
    request: InferenceRequest,
    plan: Plan,
    principal: Principal,
    inputs: Sequence[TokenIds],
    limits: EngineLimits,
    delivery: Delivery,
    numbers: "count[int]",
) -> Attempt:
    """The attempt. Nothing of an earlier one is kept: it is all or nothing. Raises TooLongHere."""
    if max(map(len, inputs)) > limits.max_model_len:
        raise TooLongHere
    assert request.body.embedding is not None
    sequences = tuple(
        [
            Embed(
                sequence_id=next(numbers),
                token_ids=token_ids,
                priority=principal.priority,
                size=request.body.embedding.size,
            )
            for token_ids in inputs
        ]
    )
    tokens = sum(map(len, inputs))
    job = Job(
        job_id=next(numbers),
        engine=of.rung,
        tenant=principal.line,
        prompt_tokens=tokens,
        tokens=tokens,
        bytes=request.body_bytes,
        deadline=of.wanted.deadline,
        wait_s=plan.queue_s,
        sequences=sequences,
        delivery=delivery,
    )
    choices = {each.sequence_id: index for index, each in enumerate(sequences)}
    return Attempt(of, job, OutputAssembly(choices), whole_in_engine=True)
