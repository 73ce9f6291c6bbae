"""Messages between rank 0 and the other ranks over pipes: MessagePack frames with a length prefix."""

from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np

from config.model.settings import EngineSettings
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, SampleRow, ScoreRows

_LENGTH_BYTES = 8
T = TypeVar("T")
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


def frame(message: msgspec.Struct) -> bytes:
    """A message with its length prefix."""
    body = msgspec.msgpack.encode(message, enc_hook=_plain)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


def read_frame(pipe: BinaryIO, kind: type[T]) -> T | None:
    """The next message; None: the other side has closed the pipe."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    body = pipe.read(length)
    if len(body) < length:
        return None
    return msgspec.msgpack.decode(body, type=kind, dec_hook=lambda type_, value: type_(value))


def _plain(value: Any) -> Any:
    """Encode subclasses of float and int, and paths, as their base types."""
    for kind in (float, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError
