"""Messages between rank 0 and the other ranks, as frames over pipes."""

from typing import Any

import msgspec
import numpy as np

from config.model.settings import EngineSettings
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, SampleRow, ScoreRows

_UNUSED_PARAMS = SamplingParams(max_tokens=1)
_ARRAYS = {
    **dict.fromkeys(("token_ids", "positions", "slots"), np.int64),
    **dict.fromkeys(("query_starts", "context_lens", "block_tables"), np.int32),
}


class Setup(msgspec.Struct, frozen=True):
    """First message to a rank."""

    settings: EngineSettings
    """The rank's own settings: one device, one rank."""
    rank: int
    ranks: int
    store: str
    """The file store through which the ranks form their group."""


class WorkerLoaded(msgspec.Struct, frozen=True, tag=True):
    """From a rank: its part of the model is loaded."""

    blocks: int
    """Blocks in its KV pool."""


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """From a rank: loading failed; no message follows."""

    code: str
    message: str


WorkerReply = WorkerLoaded | WorkerFailed


class Step(msgspec.Struct, frozen=True, array_like=True):
    """To a rank: the next forward pass."""

    arrays: tuple[bytes, ...]
    """Those of `Batch` that `_ARRAYS` names."""
    rows: list[int]
    """Rows whose logits are computed."""
    scores: list[tuple[int, int]]
    """(first row, number of rows) of each scored prompt; every rank computes their logits in the same pieces."""

    @classmethod
    def of(cls, batch: Batch) -> "Step":
        """The parts of a batch that a rank without a sampler needs."""
        return cls(
            tuple([getattr(batch, name).tobytes() for name in _ARRAYS]),
            [sample.row for sample in batch.samples],
            [(scored.row, len(scored.targets)) for scored in batch.scores],
        )

    def batch(self) -> Batch:
        kinds = zip(_ARRAYS.items(), self.arrays, strict=True)
        arrays: dict[str, Any] = {name: np.frombuffer(data, kind).copy() for (name, kind), data in kinds}
        arrays["block_tables"] = arrays["block_tables"].reshape(len(arrays["context_lens"]), -1)
        return Batch(
            **arrays,
            samples=[SampleRow(row, _UNUSED_PARAMS, 0, 0, (), []) for row in self.rows],
            scores=[ScoreRows(row, (0,) * count, 0) for row, count in self.scores],
        )
