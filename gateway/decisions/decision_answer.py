"""The answer of `/v1/decisions`."""

from collections.abc import Sequence
from typing import Any

from actors.api.response import Done
from gateway.openai.json_text import encode, usage_fields
from gateway.openai.responses.completion import Identity
from policies.judging.judgement import judged
from policies.judging.question import YES, Question


def decision_answer(
    identity: Identity, question: Question, logprobs: Sequence[float], temperature: float | None, done: Done
) -> bytes:
    """`logprobs`: of the question's outcomes, in nats; `temperature`: None: the engine has no calibration."""
    judgement = judged(logprobs, temperature or 1.0)
    outcomes = question.outcomes
    best = outcomes[judgement.best]
    decided: dict[str, Any] = {"decision": best}
    if question.kind == "predicate":
        decided = {"decision": best == YES, "probability": judgement.probabilities[outcomes.index(YES)]}
    elif question.kind == "score":
        numbers = list(map(int, outcomes))
        decided = {"decision": int(best), "expectation": judgement.expectation(numbers)}
    listed = zip(outcomes, judgement.probabilities, logprobs, strict=True)
    return encode(
        {
            "id": f"decision-{identity.request_id}",
            "object": "decision",
            "created": identity.created,
            "model": identity.model,
            "type": question.kind,
            **decided,
            "outcomes": [
                {"outcome": outcome, "probability": probability, "logprob": logprob}
                for outcome, probability, logprob in listed
            ],
            "mass": judgement.mass,
            "calibrated": temperature is not None,
            "usage": usage_fields(done.usage),
            "penstock": done.served,
        }
    )
