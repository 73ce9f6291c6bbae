"""Experts chosen once for all who compute a text: a token that a rounding sends elsewhere hides all other roundings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from engine.torch_runner import TorchRunner
from engine.weights.mlp import Mixture


class Routing:
    """Which experts one model took for a text. Of models without experts it says nothing, and changes nothing."""

    def __init__(self, model: nn.Module) -> None:
        """`model`: transformers'; its next forward pass is noted."""
        self._chosen: dict[int, Tensor] = {}
        """For each mixture, in order: [tokens, experts] which are taken."""
        for index, gate in enumerate(_gates(model)):
            gate.register_forward_hook(partial(self._note, index))

    def _note(self, index: int, _gate: nn.Module, _given: Any, found: tuple[Tensor, Tensor, Tensor]) -> None:
        logits, _, chosen = found
        self._chosen[index] = torch.zeros_like(logits, dtype=torch.bool).scatter(1, chosen, value=True)

    def impose_on_transformers(self, model: nn.Module) -> None:
        """It takes the same for the same text, weighted by its own numbers."""
        for index, gate in enumerate(_gates(model)):
            gate.register_forward_hook(partial(self._replace, index))

    def _replace(self, index: int, _gate: nn.Module, _given: Any, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        logits, scores, _ = found
        allowed = logits.float().masked_fill(~self._chosen[index], -torch.inf)
        weights, chosen = allowed.softmax(-1).topk(scores.shape[1])
        return logits, weights.to(scores.dtype), chosen

    def impose(self, runner: TorchRunner) -> None:
        """It takes the same for the same text, which it has to be given alone, from its beginning."""
        assert runner._plain is not None
        mixtures = [layer.mlp for layer in runner._plain._weights.layers if isinstance(layer.mlp, Mixture)]
        for mixture, chosen in zip(mixtures, self._chosen.values(), strict=True):
            mixture.router = _Imposed(mixture.router, chosen)


class _Imposed:
    def __init__(self, router: Callable[[Tensor], Tensor], chosen: Tensor) -> None:
        self._router = router
        self._chosen = chosen
        self._seen = 0

    def __call__(self, x: Tensor) -> Tensor:
        rows = self._chosen[self._seen : self._seen + len(x)]
        self._seen += len(x)
        return self._router(x).float().masked_fill(~rows, -torch.inf)


def _gates(model: nn.Module) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith(".mlp.gate")]
