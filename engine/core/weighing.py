"""How probable several answers to one prompt are, from the model's own distribution, without generating any.

The probability of an answer is that of its tokens one after the other. The distribution after the prompt gives all
first tokens at once. An answer of several tokens needs more of them: after the prompt with its first token, with its
first two, and so on. Each is one reading of a text whose beginning the prefix cache has; answers that begin alike share
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import exp, fsum, log

import numpy as np

from engine.errors import EngineError, RequestRefused
from engine.messages import Embedding, Finish, Finished, Submit, TokenDelta, Weigh
from engine.sampling.params import SamplingParams

TokenIds = tuple[int, ...]
_LEAST = 1e-9
"""What rounding leaves of a probability that is nearly used up."""


def readings_of(answers: Sequence[TokenIds]) -> dict[TokenIds, TokenIds]:
    """By the tokens after the prompt, (), first: the tokens whose probabilities are needed there.

    Raises RequestRefused: an answer has no tokens, or occurs twice.
    """
    if not answers or not all(answers):
        raise RequestRefused("answers_invalid", "Give at least one answer, each with at least one token.")
    wanted: dict[TokenIds, dict[int, None]] = {(): {}}
    for answer in answers:
        for place, token_id in enumerate(answer):
            wanted.setdefault(answer[:place], {})[token_id] = None
    if len(set(answers)) < len(answers):
        raise RequestRefused("answers_ambiguous", "An answer occurs twice.")
    return {before: tuple(tokens) for before, tokens in wanted.items()}


def logprobs_of(answers: Sequence[TokenIds], found: Mapping[TokenIds, float]) -> list[float]:
    """The log-probability of each answer; `found`: by tokens after the prompt that of the last of them.

    An answer whose tokens are the beginning of another one's counts as given where no such other one is: the
    probabilities are of events that exclude each other.
    """
    begun = {answer: fsum([found[answer[: place + 1]] for place in range(len(answer))]) for answer in answers}
    logprobs = []
    for answer in answers:
        longer = [other for other in answers if len(other) > len(answer) and other[: len(answer)] == answer]
        # One that goes on from a longer one is part of its probability.
        nearest = [one for one in longer if not any(one != other and one[: len(other)] == other for other in longer)]
        rest = 1 - fsum([exp(begun[one] - begun[answer]) for one in nearest])
        logprobs.append(begun[answer] + log(max(rest, _LEAST)))
    return logprobs


class _Open:
    """A `Weigh` that is not finished."""

    __slots__ = ("cached_tokens", "command", "found", "missing")

    def __init__(self, command: Weigh, missing: dict[int, TokenIds]) -> None:
        self.command = command
        self.missing = missing
        """By sequence: the tokens after the prompt."""
        self.found: dict[TokenIds, float] = {}
        """By tokens after the prompt: the log-probability of the last of them."""
        self.cached_tokens = 0


class Weighings:
    """Makes a sequence of each reading, and one output of what they bring. Their ids are negative."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._owners: dict[int, int] = {}
        """By a reading's sequence."""
        self._last = 0

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._open

    def __iter__(self) -> Iterator[int]:
        return iter(self._open)

    def begin(self, command: Weigh) -> list[Submit]:
        """The readings, that of the prompt alone first. Raises RequestRefused."""
        missing: dict[int, TokenIds] = {}
        submits = []
        for after, tokens in readings_of(command.answers).items():
            self._last -= 1
            missing[self._last] = after
            submits.append(
                Submit(
                    sequence_id=self._last,
                    prompt_token_ids=(*command.prompt_token_ids, *after),
                    params=SamplingParams(
                        max_tokens=1, temperature=0.0, prompt_only=True, logprobs=0, logprob_token_ids=tokens
                    ),
                    priority=command.priority,
                    cache_salt=command.cache_salt,
                    adapter=command.adapter,
                )
            )
        self._open[command.sequence_id] = _Open(command, missing)
        self._owners.update(dict.fromkeys(missing, command.sequence_id))
        return submits

    def drop(self, sequence_id: int) -> tuple[list[int], Finished]:
        """Forget one that is open: the sequences of its readings that are not finished, and its output."""
        entry = self._open.pop(sequence_id)
        for reading in entry.missing:
            del self._owners[reading]
        finish = Finish(reason="abort", prompt_tokens=len(entry.command.prompt_token_ids), completion_tokens=0)
        return list(entry.missing), Finished(sequence_id, finish)

    def passed(self, output: TokenDelta) -> TokenDelta | Embedding | None:
        """The output itself; for a reading the end of its `Weigh`, or None while others are missing."""
        owner = self._owners.pop(output.sequence_id, None)
        if owner is None:
            return output
        entry = self._open[owner]
        after = entry.missing.pop(output.sequence_id)
        entry.found.update({(*after, token_id): logprob for token_id, logprob, _ in output.logprobs[0].top})
        if not after and output.finish is not None:
            entry.cached_tokens = output.finish.cached_tokens
        if entry.missing:
            return None
        del self._open[owner]
        return _result(entry)

    def check_integrity(self, sequences: Sequence[int]) -> None:
        """`sequences`: those that are alive. Raises EngineError."""
        readings = {reading for entry in self._open.values() for reading in entry.missing}
        if readings != self._owners.keys() or readings != {each for each in sequences if each < 0}:
            raise EngineError("engine_integrity", "the readings do not add up; this is a defect")


def _result(entry: _Open) -> Embedding:
    command = entry.command
    logprobs = logprobs_of(command.answers, entry.found)
    finish = Finish(
        reason="stop",
        prompt_tokens=len(command.prompt_token_ids),
        completion_tokens=0,
        cached_tokens=entry.cached_tokens,
    )
    return Embedding(command.sequence_id, np.array(logprobs, "<f4").tobytes(), finish)
