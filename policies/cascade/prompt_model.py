"""What a prompt itself says of who will be right: a threshold for each request instead of one for all.

A calibration may carry two logistic models over hashed words of the last user text: for the small model's being right,
with the deferral statistic as one more input, and for the large model's. An answer goes to the large model if

    P(small right | statistic, words) - P(large right | words) < level

and because the first rises with the statistic, that is a threshold on the statistic, known before the first token:
where the large model would not be right either, doubt is no reason to ask it. Words are hashed into buckets as in
"Feature Hashing for Large Scale Multitask Learning" (Weinberger et al., 2009), without signs.
"""

import math
import re
import zlib

from config.model.calibration import PromptModel

BUCKETS = 256
LIMIT = 20.0
"""Beyond this a statistic says no more: it is cut to ± so much."""
_FIRST, _LAST = 40, 24
"""Words that are looked at, from either end."""
_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
_LOOKED_AT_CHARS = 1000
Priors = tuple[float, float]
"""Log-odds that the small model is right where the statistic is 0, and the probability that the large one is."""


def words_of(text: str) -> tuple[int, ...]:
    """Buckets of the text's words, its signs and the lengths of its numbers; each once, in order."""
    half = _LOOKED_AT_CHARS // 2
    part = text if len(text) <= _LOOKED_AT_CHARS else f"{text[:half]} {text[-half:]}"
    words = _WORD.findall(part.lower())
    if len(words) > _FIRST + _LAST:
        words = [*words[:_FIRST], *words[-_LAST:]]
    kinds = {f"#{len(word)}" if word[0].isdigit() else word for word in words}
    kinds.add(f"long{len(text).bit_length()}")
    return tuple(sorted({zlib.crc32(kind.encode()) % BUCKETS for kind in kinds}))


def priors_of(model: PromptModel, words: tuple[int, ...]) -> Priors:
    """See `Priors`."""
    small, large = model.small_words, model.large_words
    return (
        model.small_bias + sum([small[word] for word in words]),
        _probability(model.large_bias + sum([large[word] for word in words])),
    )


def neutral_priors(model: PromptModel) -> Priors:
    """Of a prompt of which nothing is known."""
    return model.small_mean, model.large_mean


def score_of(model: PromptModel, priors: Priors, statistic: float) -> float:
    """How much likelier the small model is right than the large one, -1 to 1."""
    small, large = priors
    return _probability(small + model.slope * min(max(statistic, -LIMIT), LIMIT)) - large


def threshold_at(model: PromptModel, priors: Priors, level: float) -> float:
    """The threshold of the statistic at which `score_of` is `level`; infinite where it always, or never, is below."""
    small, large = priors
    wanted = level + large
    if wanted <= 0:
        return -math.inf
    if wanted >= 1:
        return math.inf
    threshold = (math.log(wanted / (1 - wanted)) - small) / model.slope
    if threshold > LIMIT:
        return math.inf
    return threshold if threshold > -LIMIT else -math.inf


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
