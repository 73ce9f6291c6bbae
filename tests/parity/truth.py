"""What a cell's answers are held against: what transformers, and PEFT over it, say to the same requests."""

import random
from collections.abc import Iterator
from itertools import groupby

import msgspec
import torch

from tests.parity import models
from tests.parity.adapters import adapted
from tests.parity.grid import OUTPUTS, VOCAB, Asked, Model, asked, prompts

ROUTED = ("mixtral", "qwen3-moe")
"""Here a rounding can send a token to another expert: such a position is wholly off, ours or theirs. Medians count."""


def _by_adapter(model: Model, requests: list[Asked], dtype: torch.dtype) -> Iterator[tuple[torch.nn.Module, list[int]]]:
    """(who answers, the requests' places) for each adapter, and for none."""

    def adapter(place: int) -> str:
        return requests[place].adapter

    for name, places in groupby(sorted(range(len(requests)), key=adapter), adapter):
        if not name:
            yield models.reference(model.weights, dtype), list(places)
        else:
            # Added to rounded weights an adapter would be rounded, too.
            exact = dtype == torch.float32
            yield adapted(model.weights, model.folders[name], dtype, merged=exact), list(places)


def greedy_answers(model: Model, adapters: bool) -> list[list[int]]:
    """To each of `asked(adapters)`, in float32."""
    requests = asked(adapters)
    found: dict[int, list[int]] = {}
    for reference, places in _by_adapter(model, requests, torch.float32):
        answers = models.greedy(reference, [requests[place].prompt for place in places], OUTPUTS)
        found |= dict(zip(places, answers, strict=True))
    return [found[place] for place in range(len(requests))]


class Exact:
    """A model in float32, and the ids that are right."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._answers: dict[bool, list[list[int]]] = {}

    def answers(self, adapters: bool) -> list[list[int]]:
        if adapters not in self._answers:
            self._answers[adapters] = greedy_answers(self.model, adapters)
        found = self._answers[adapters]
        if adapters:
            assert found[3] != found[5], "the adapter changes nothing: choose a larger one"
        return found


class Tables(msgspec.Struct):
    """Log-probabilities [outputs, vocab] behind each of some requests."""

    truth: list[torch.Tensor]
    """Of the same weights in float32."""
    errors: list[torch.Tensor]
    """Transformers' own, in bfloat16."""


class Rounded:
    """A model in bfloat16, what it is told to say, and how likely that should be."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.routed = model.case in ROUTED
        rng = random.Random(model.case)
        # Any tokens will do.
        self.told = [[rng.randrange(VOCAB) for _ in range(OUTPUTS)] for _ in prompts()]
        self._tables: dict[bool, Tables] = {}

    def tables(self, adapters: bool) -> Tables:
        if adapters not in self._tables:
            truth, theirs = (self._said(adapters, dtype) for dtype in (torch.float32, torch.bfloat16))
            errors = [(each - line).abs() for each, line in zip(theirs, truth, strict=True)]
            self._tables[adapters] = Tables(truth, errors)
        return self._tables[adapters]

    def _said(self, adapters: bool, dtype: torch.dtype) -> list[torch.Tensor]:
        requests = asked(adapters)
        told = {tuple(prompt): ids for prompt, ids in zip(prompts(), self.told, strict=True)}
        found: dict[int, torch.Tensor] = {}
        for reference, places in _by_adapter(self.model, requests, dtype):
            for place in places:
                prompt = requests[place].prompt
                tokens = torch.tensor([[*prompt, *told[tuple(prompt)]]])
                with torch.inference_mode():
                    found[place] = reference(tokens).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        return [found[place] for place in range(len(requests))]
