"""MLPs of a layer: dense gated MLP and mixture of experts."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from engine.kernels.tiles import in_tiles
from engine.model.model_config import Activation
from engine.weights.linear import Linear

ExpertGate = Callable[[Tensor], Tensor]
"""[rows, 2 · intermediate] → [rows, intermediate]: activation(gate) · up."""


_SHARED_ELEMENTS = 16_384
"""From this number of elements torch splits an element-wise operation among threads. A split can fall within a row, and
the elements before it are rounded by other instructions, so that a row's bits would depend on the number of rows."""


def gated(gate_up: Tensor, activation: Activation) -> Tensor:
    """activation(gate) · up, computed in float32; the result has the input's dtype."""
    rows = max((_SHARED_ELEMENTS - 1) // (gate_up.shape[1] // 2), 1)
    if gate_up.device.type != "cpu" or len(gate_up) <= rows:
        return _gated(gate_up, activation)
    return torch.cat([_gated(gate_up[at : at + rows], activation) for at in range(0, len(gate_up), rows)])


def _gated(gate_up: Tensor, activation: Activation) -> Tensor:
    gate, up = gate_up.float().chunk(2, dim=-1)
    active = functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")
    return (active * up).to(gate_up.dtype)


class Dense(NamedTuple):
    """A dense gated MLP."""

    gate_up: Linear
    """[rows, hidden] → [rows, 2 · intermediate], gate first."""
    down: Linear
    """Back to [rows, hidden]."""

    def __call__(self, x: Tensor, gate: ExpertGate) -> Tensor:
        """[rows, hidden] → [rows, hidden]."""
        return self.down(gate(self.gate_up(x)))


class Mixture(msgspec.Struct):
    """Weighted sum of the `active` most probable experts per token (Jiang et al., "Mixtral of Experts", section 2.1).

    Experts are added in the order of their index, so that a token's sum does not depend on the other tokens.
    """

    router: Linear
    experts: list[tuple[Linear, Linear]]
    """(gate_up, down) per expert."""
    active: int
    renormalize: bool
    activation: Activation
    pad_single: bool
    """See `Decoder`."""
    reduce: Callable[[Tensor], Tensor]
    """See `WeightLoader`."""
    tile: int = 0
    """See `engine.kernels.tiles`."""

    def __call__(self, x: Tensor, gate: ExpertGate) -> Tensor:
        """[rows, hidden] → [rows, hidden]; `gate` is not used, because its buffers have the width of dense MLPs."""
        weights, chosen = self.router(x).float().softmax(-1).topk(self.active, dim=-1)
        if self.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros((len(x), x.shape[1]), dtype=torch.float32, device=x.device)
        for number in sorted(set(chosen.flatten().tolist())):
            gate_up, down = self.experts[number]
            rows, place = (chosen == number).nonzero(as_tuple=True)
            mine = x[rows]
            single = self.pad_single and len(rows) == 1
            wide = gate_up(torch.cat((mine, mine)) if single else mine)
            y = down(in_tiles(partial(gated, activation=self.activation), wide, self.tile))
            out.index_add_(0, rows, y[: len(rows)].float() * weights[rows, place].unsqueeze(1))
        return self.reduce(out).to(x.dtype)


Mlp = Dense | Mixture
