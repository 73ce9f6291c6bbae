"""The answer of `/v1/decisions` as types, for the API's description; `decision_answer.py` writes it."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from actors.api.response import Served
from gateway.openai.responses.answer_types import TokenUsage
from policies.judging.question import QuestionKind


class OutcomeEntry(Struct):
    """One outcome that the question can have."""

    outcome: str
    probability: float
    """Those of all outcomes add up to 1."""
    logprob: float
    """Of the outcome as the model would write it, in nats; not calibrated."""


class DecisionAnswer(Struct, kw_only=True):
    """The most probable outcome of a question, and how probable each one is."""

    id: str
    object: Literal["decision"]
    created: int
    model: str
    type: QuestionKind
    decision: bool | str | int
    """Of a predicate true or false, of a choice the option, of a score the number."""
    probability: float | UnsetType = UNSET
    """Of a predicate: that it is true."""
    expectation: float | UnsetType = UNSET
    """Of a score: the mean of the scale's numbers, weighted by their probabilities."""
    outcomes: list[OutcomeEntry]
    mass: float
    """How probable it is that the model would answer with one of the outcomes at all; small if it has not understood
    how to answer."""
    calibrated: bool
    """The server has a calibration for the engine that answered."""
    usage: TokenUsage
    penstock: Served
