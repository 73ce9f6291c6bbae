"""Training data: tokenized conversations of generated questions, in batches of rows of similar length.

A conversation is one to four questions (rarely a dozen, for long contexts), sometimes with a system message or a
greeting; or several questions about one passage; or a recital of facts. The loss covers the answers only.
"""

from collections.abc import Iterator
from random import Random

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from engine.zoo.lookups import RECITALS, follow_ups, recital
from engine.zoo.smalltalk import SMALLTALK, SYSTEM_LINES
from engine.zoo.tasks import TASKS, draw
from engine.zoo.tokenizer import ASSISTANT, BOS, END, PAD, SYSTEM, USER, special_id

_TURNS, _TURN_WEIGHTS = (1, 2, 3, 4), (78, 12, 6, 4)
_LONG_TURNS = (8, 16)
_STRETCH = 1.8
_LONG_SHARE, _SYSTEM_SHARE, _SMALLTALK_SHARE = 0.004, 0.08, 0.02


class Mix(msgspec.Struct, frozen=True):
    """Proportions of the training data."""

    tasks: dict[str, int]
    """Weights of the tasks for single questions."""
    recitals: float = 0.0
    """Fraction of conversations that only repeat facts (recitals)."""
    bare: float = 0.0
    """Fraction of their facts that are written without the verb."""
    turned: float = 0.0
    """Probability that a recital repeats a fact reversed, or joined with another."""
    passages: float = 0.0
    """Fraction of conversations with several questions about one passage."""
    passage_questions: tuple[int, int] = (3, 8)


class TrainingBatch(msgspec.Struct, frozen=True):
    """Rows of one length: `tokens`, `targets` and `weights` are [rows, length]; `weights` is 0 outside of answers.

    The weights of an answer sum to the root of its length, so that long JSON answers do not dominate.
    """

    tokens: Tensor
    targets: Tensor
    weights: Tensor


class Corpus:
    """An infinite stream of conversations, determined by its generator."""

    def __init__(self, tokenizer: Tokenizer, rng: Random, max_tokens: int, mix: Mix) -> None:
        self._tokenizer = tokenizer
        self._rng = rng
        self._max_tokens = max_tokens
        self.mix = mix
        """Proportions for the following conversations."""
        self.hardest = dict.fromkeys(TASKS, 3)
        """Maximum level of questions, by task."""
        self._ids = {name: special_id(tokenizer, name) for name in (PAD, BOS, END, SYSTEM, USER, ASSISTANT)}

    def _text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def conversation(self) -> tuple[list[int], list[float]]:
        """Token ids, and the weight of each token as a target."""
        ids = self._ids
        tokens, weights = [ids[BOS]], [0.0]
        if self.mix.recitals and self._rng.random() < self.mix.recitals:
            return self._recital()
        system, exchanges = self._exchanges()
        if system:
            tokens += [ids[SYSTEM], *self._text(system), ids[END]]
            weights += [0.0] * (len(tokens) - len(weights))
        for prompt, answer in exchanges:
            prompt_ids = [ids[USER], *self._text(prompt), ids[END], ids[ASSISTANT]]
            answer_ids = [*self._text(answer), ids[END]]
            tokens += prompt_ids + answer_ids
            weights += [0.0] * len(prompt_ids) + [len(answer_ids) ** -0.5] * len(answer_ids)
        return tokens[: self._max_tokens], weights[: self._max_tokens]

    def _recital(self) -> tuple[list[int], list[float]]:
        facts = recital(self._rng, self.mix.bare, self.mix.turned)
        known = len(facts) // (1 + RECITALS)
        weight = (len(facts) - known) ** -0.5
        tokens, weights = [self._ids[BOS], self._ids[USER]], [0.0, 0.0]
        for place, (start, last) in enumerate(facts):
            for text, learned in ((start, 0.0), (last, weight if place >= known else 0.0), (".", 0.0)):
                part = self._text(text)
                tokens += part
                weights += [learned] * len(part)
        return tokens[: self._max_tokens], weights[: self._max_tokens]

    def _exchanges(self) -> tuple[str, list[tuple[str, str]]]:
        """The system message ("" for none) and pairs of prompt and answer."""
        rng, mix = self._rng, self.mix
        if mix.passages and rng.random() < mix.passages:
            level, count = rng.randint(1, self.hardest["lookups"]), rng.randint(*mix.passage_questions)
            return "", [(question.prompt, question.answer) for question in follow_ups(rng, level, count)]
        turns = rng.choices(_TURNS, _TURN_WEIGHTS)[0]
        if rng.random() < _LONG_SHARE:
            turns = rng.randint(*_LONG_TURNS)
        system = rng.choice(SYSTEM_LINES) if rng.random() < _SYSTEM_SHARE else ""
        exchanges = []
        for _ in range(turns):
            if rng.random() < _SMALLTALK_SHARE:
                exchanges.append(rng.choice(SMALLTALK))
                continue
            task = rng.choices(tuple(mix.tasks), tuple(mix.tasks.values()))[0]
            question = draw(rng, task, held_out=False, hardest=self.hardest[task])
            exchanges.append((question.prompt, question.answer))
        return system, exchanges

    def steps(self, tokens_a_step: int) -> Iterator[list[TrainingBatch]]:
        """The batches of each optimizer step: about `tokens_a_step` tokens, in batches of similar length."""
        while True:
            pool, total = [], 0
            while total < tokens_a_step:
                pool.append(self.conversation())
                total += len(pool[-1][0])
            pool.sort(key=lambda item: len(item[0]))
            yield list(self._split(pool))

    def _split(self, pool: list[tuple[list[int], list[float]]]) -> Iterator[TrainingBatch]:
        """Batches in which no row is padded to more than `_STRETCH` times its length."""
        rows: list[tuple[list[int], list[float]]] = []
        for item in pool:
            if rows and len(item[0]) > _STRETCH * len(rows[0][0]):
                yield self._batch(rows)
                rows = []
            rows.append(item)
        yield self._batch(rows)

    def _batch(self, rows: list[tuple[list[int], list[float]]]) -> TrainingBatch:
        width = max(len(tokens) for tokens, _ in rows)
        tokens = torch.full((len(rows), width), self._ids[PAD])
        weights = torch.zeros(len(rows), width)
        for row, (ids, weight) in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids)
            weights[row, : len(ids)] = torch.tensor(weight)
        return TrainingBatch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])
