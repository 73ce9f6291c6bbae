"""Settings of what judges texts: calibrations of decisions, the categories of moderation, guardrails."""

from typing import Literal

from config.model.bounds import Positive, PositiveShare
from config.model.table import Table


class DecisionSettings(Table, frozen=True, kw_only=True):
    """How the probabilities of one engine's decisions are calibrated."""

    temperature: Positive
    """Log-probabilities of outcomes are divided by it: above 1 the model becomes less sure. Found on examples with
    known answers."""


class CategorySettings(Table, frozen=True, kw_only=True):
    """A category of moderation, by labels of the classifier."""

    labels: tuple[str, ...]
    """The labels that belong to it; the largest of their scores is the category's."""
    threshold: PositiveShare = 0.5
    """From this score on a text is flagged."""


class ModerationSettings(Table, frozen=True, kw_only=True):
    """What answers `/v1/moderations` for one name in the field `model`."""

    model: str
    """A name in [models] that a classifier answers."""
    categories: dict[str, CategorySettings]
    """By OpenAI's names ("hate", "self-harm/intent", ...) or others, which the answer then has, too."""


class JudgedBy(Table, frozen=True, kw_only=True):
    """What judges a text: a question to a model of text, or a classifier. It has `predicate` or `labels`."""

    model: str
    """A name in [models]: of a model of text for a predicate, of a classifier for labels."""
    predicate: str | None = None
    """A question about the text whose answer is yes or no."""
    labels: tuple[str, ...] = ()
    """Labels of the classifier; the largest of their scores counts."""
    threshold: PositiveShare = 0.5
    """From this probability of yes, or this score, on the text is what was asked for."""


class JudgeSettings(JudgedBy, frozen=True, kw_only=True):
    """What judges the small stage's answer when it is whole: below `threshold` the answer escalates."""

    on_failure: Literal["escalate", "accept"] = "escalate"
    """What happens to an answer that cannot be judged."""


class GuardrailSettings(JudgedBy, frozen=True, kw_only=True):
    """What judges a text of users or of models; from `threshold` on it takes effect."""

    reads: Literal["request", "answer"] = "request"
    """request: what the user has written, before the request is planned. answer: what a model has written, before any
    of it is sent."""
    action: Literal["refuse", "log"] = "refuse"
    """refuse: the client gets 400 `guardrail_refused`. log: it is served, and the log has `guardrail_held`, or
    `guardrail_failed` if it could not be judged."""
    message: str = ""
    """What the client of a refused request reads. Empty: that the guardrail of this name has refused it."""
    guards: tuple[str, ...] = ()
    """The models that it guards, as clients name them, with * as a wildcard. Empty: all."""
