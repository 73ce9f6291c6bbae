"""How each model is made: its shape, steps, rates and seed. Changing a number here changes the shipped weights."""

from __future__ import annotations

import math

import msgspec

from engine.zoo.llama import Shape
from engine.zoo.tokenizer import VOCABULARY


class Recipe(msgspec.Struct, frozen=True):
    """One model's training run."""

    shape: Shape
    steps: int
    seed: int
    tokens_a_step: int = 2048
    """Optimizer steps are small on purpose: for few tokens in all, many steps learned far more than large ones."""
    matrix_rate: float = 2e-3
    """Muon's learning rate, for the matrices of attention and MLP, scaled to AdamW's update size."""
    vector_rate: float = 5e-3
    """AdamW's learning rate, for the embedding, the head and the norms."""
    warmup_steps: int = 50

    def rate(self, step: int) -> float:
        """The learning rates' factor at `step`: a linear warm-up, then half a cosine down to 1 %."""
        falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return min(1.0, (step + 1) / self.warmup_steps) * falling

    def hardest(self, step: int) -> int:
        """The hardest level of question at `step`: copying is learned soonest on short ones."""
        return 1 if step < 0.1 * self.steps else 2 if step < 0.25 * self.steps else 3


RECIPES: dict[str, Recipe] = {
    "small": Recipe(Shape(128, 384, 4, 4, 2, 32, VOCABULARY), steps=1800, seed=1),
    "large": Recipe(Shape(192, 512, 6, 6, 3, 32, VOCABULARY), steps=4000, seed=2, matrix_rate=1.5e-3),
}
