"""An encoder without a model, for tests: an embedding is a hash of its input's tokens."""

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError
from engine.model.vectors import EmbeddingSizes

OnStep = Callable[[int, Sequence[Sequence[int]]], None]
"""Called before step n (from 0), so that tests can delay a step or make it fail."""


class FakeEncoder:
    """Unit vectors; equal inputs have equal vectors, and different inputs almost certainly different ones."""

    def __init__(
        self,
        *,
        vocab_size: int = 512,
        max_input_tokens: int = 64,
        sizes: EmbeddingSizes | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_input_tokens = max_input_tokens
        self.sizes = sizes or EmbeddingSizes(8)
        self.closed = False
        self.steps = 0
        self._on_step = on_step

    def embed(self, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None] = ()) -> npt.NDArray[np.float32]:
        if self.closed:
            raise EngineError("engine_closed", "the runner is closed")
        if self._on_step is not None:
            self._on_step(self.steps, inputs)
        self.steps += 1
        if self.sizes.labels:
            places = seconds or [None] * len(inputs)
            return np.stack([self._scores(each, second) for each, second in zip(inputs, places, strict=True)])
        return np.stack([self._vector(token_ids) for token_ids in inputs])

    def _scores(self, token_ids: Sequence[int], second: int | None) -> npt.NDArray[np.float32]:
        """1 / (1 + tokens of the second text), for each further label half of the one before."""
        last = len(token_ids) - (second or 0)
        return np.array([0.5**number / (1 + last) for number in range(self.sizes.whole)], np.float32)

    def _vector(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        seed = int.from_bytes(blake2b(repr(tuple(token_ids)).encode(), digest_size=8).digest(), "little")
        values = np.random.default_rng(seed).standard_normal(self.sizes.whole).astype(np.float32)
        vector: npt.NDArray[np.float32] = values / np.linalg.norm(values)
        return vector

    def close(self) -> None:
        self.closed = True
