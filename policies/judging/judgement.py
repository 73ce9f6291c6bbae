"""What a model says to a question: the probability of each outcome."""

from collections.abc import Sequence
from math import exp, fsum

import msgspec


class Judgement(msgspec.Struct, frozen=True):
    """Probabilities in the order of the question's outcomes."""

    probabilities: tuple[float, ...]
    """Their sum is 1."""
    mass: float
    """How probable it is that the model would answer with one of the outcomes at all, 0 to 1; uncalibrated. If it is
    small, the model has not understood how to answer."""

    @property
    def best(self) -> int:
        """The place of the most probable outcome; of equal ones the first."""
        return max(range(len(self.probabilities)), key=lambda place: (self.probabilities[place], -place))

    def expectation(self, values: Sequence[float]) -> float:
        """The mean of the outcomes' values, weighted by their probabilities."""
        return fsum([value * share for value, share in zip(values, self.probabilities, strict=True)])


def judged(logprobs: Sequence[float], temperature: float = 1.0) -> Judgement:
    """From the log-probability of each outcome, in nats, as the model writes it.

    `temperature`: calibrates them (Guo et al., "On Calibration of Modern Neural Networks", section 4.2): above 1 the
    probabilities move towards each other; the order of the outcomes stays.
    """
    peak = max(logprobs)
    weights = [exp((each - peak) / temperature) for each in logprobs]
    total = fsum(weights)
    return Judgement(tuple([weight / total for weight in weights]), min(fsum(map(exp, logprobs)), 1.0))
