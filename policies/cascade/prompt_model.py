"""Computes a deferral threshold for one request from its prompt, instead of one threshold for all requests.

A calibration may contain two logistic models over hashed words of the last user text: one for the probability that the
small model is right, with the deferral statistic as an additional input, and one for the large model. An answer goes
to the large model if

    P(small right | statistic, words) - P(large right | words) < level

Because the first term increases with the statistic, this is a threshold on the statistic that is known before the first
token. Where the large model is unlikely to be right as well, the threshold is low. Words are hashed into buckets as in
"Feature Hashing for Large Scale Multitask Learning" (Weinberger et al., 2009), without the sign hash.
"""

import math
import re
import zlib

from config.model.calibration import PromptModel

BUCKETS = 256
LIMIT = 20.0
"""Statistics are clipped to ± this many nats."""
_FIRST_WORDS, _LAST_WORDS = 40, 24
"""Of a longer text, only these are used."""
_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
_MAX_CHARS = 1000
Priors = tuple[float, float]
"""Log-odds that the small model is right at a statistic of 0, and the probability that the large model is right."""


def words_of(text: str) -> tuple[int, ...]:
    """Buckets of the text's words, punctuation, lengths of numbers and length in powers of two; distinct and sorted."""
    half = _MAX_CHARS // 2
    part = text if len(text) <= _MAX_CHARS else f"{text[:half]} {text[-half:]}"
    words = _WORD.findall(part.lower())
    if len(words) > _FIRST_WORDS + _LAST_WORDS:
        words = [*words[:_FIRST_WORDS], *words[-_LAST_WORDS:]]
    kinds = {f"#{len(word)}" if word[0].isdigit() else word for word in words}
    kinds.add(f"long{len(text).bit_length()}")
    return tuple(sorted({zlib.crc32(kind.encode()) % BUCKETS for kind in kinds}))


def priors_of(model: PromptModel, words: tuple[int, ...]) -> Priors:
    """The `Priors` of a prompt with these buckets."""
    small, large = model.small_words, model.large_words
    return (
        model.small_bias + sum([small[word] for word in words]),
        _probability(model.large_bias + sum([large[word] for word in words])),
    )


def neutral_priors(model: PromptModel) -> Priors:
    """The mean `Priors` of the calibration's prompts, for a prompt whose text is unknown."""
    return model.small_mean, model.large_mean


def score_of(model: PromptModel, priors: Priors, statistic: float) -> float:
    """P(small right) - P(large right), -1 to 1."""
    small, large = priors
    return _probability(small + model.slope * min(max(statistic, -LIMIT), LIMIT)) - large


def threshold_at(model: PromptModel, priors: Priors, level: float) -> float:
    """The statistic at which `score_of` equals `level`; inf if the score is always below, -inf if it never is."""
    small, large = priors
    probability = level + large
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    threshold = (math.log(probability / (1 - probability)) - small) / model.slope
    if threshold > LIMIT:
        return math.inf
    return threshold if threshold > -LIMIT else -math.inf


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
