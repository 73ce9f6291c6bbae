"""Moderations and decisions."""

from gateway.decisions.answer_types import DecisionAnswer
from gateway.decisions.decision_request import DecisionBody
from gateway.endpoints.operations.common import MODEL, MODEL_ERRORS, QUESTION, made_by_model
from gateway.openai.requests.json_body import whole_body
from gateway.openai.requests.moderation_request import ModerationBody, ModerationPart
from gateway.openai.responses.moderation_types import ModerationAnswer
from gateway.openapi.headers import POLICY_TAGS
from gateway.openapi.operation import Operation, Parts
from gateway.openapi.words import JUDGING

_TEXT = "The river has left its banks."
JUDGING_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/moderations",
        name="createModeration",
        tag=JUDGING,
        summary="The categories of texts",
        text="By the labels of a classifier that the server's configuration names.",
        body=whole_body(ModerationBody),
        parts=(Parts(ModerationBody, "input", {"text": ModerationPart}),),
        examples={
            "texts": {"model": "safety", "input": [_TEXT, "It rains."]},
            "parts": {"model": "safety", "input": [{"type": "text", "text": _TEXT}]},
        },
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(ModerationAnswer)},
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/decisions",
        name="createDecision",
        tag=JUDGING,
        summary="Answer a question about a text with probabilities",
        text="Whether something is so, which of several options it is, or a number of a scale.",
        body=whole_body(DecisionBody),
        examples={
            "predicate": {
                "model": MODEL, "input": _TEXT, "decision": {"type": "predicate", "question": "Is it a flood?"},
            },
            "choice": {
                "model": MODEL,
                "messages": QUESTION,
                "decision": {"type": "choice", "question": "What is it about?", "options": ["sums", "rivers"]},
            },
            "score": {
                "model": MODEL,
                "input": _TEXT,
                "decision": {"type": "score", "question": "How urgent is it?", "min": 0, "max": 3},
            },
        },
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(DecisionAnswer)},
        refused=MODEL_ERRORS,
    ),
)  # fmt: skip
