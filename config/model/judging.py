"""Settings of what judges texts: calibrations of decisions, and the categories of moderation."""

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
