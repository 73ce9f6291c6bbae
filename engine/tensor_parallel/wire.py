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
    """To a rank: the next forward pass. Arrays as in `Batch`."""

    token_ids: bytes
    positions: bytes
    slots: bytes
    query_starts: bytes
    context_lens: bytes
    block_tables: bytes
    rows: list[int]
    """Rows whose logits are computed."""
    scores: list[tuple[int, int]]
    """(first row, number of rows) of each scored prompt; every rank computes their logits in the same pieces."""

    @classmethod
    def of(cls, batch: Batch) -> "Step":
        """The parts of a batch that a rank without a sampler needs."""
        return cls(
            batch.token_ids.tobytes(),
            batch.positions.tobytes(),
            batch.slots.tobytes(),
            batch.query_starts.tobytes(),
            batch.context_lens.tobytes(),
            batch.block_tables.tobytes(),
            [sample.row for sample in batch.samples],
            [(scored.row, len(scored.targets)) for scored in batch.scores],
        )

    def batch(self) -> Batch:
        context_lens = np.frombuffer(self.context_lens, np.int32).copy()
        return Batch(
            token_ids=np.frombuffer(self.token_ids, np.int64).copy(),
            positions=np.frombuffer(self.positions, np.int64).copy(),
            slots=np.frombuffer(self.slots, np.int64).copy(),
            query_starts=np.frombuffer(self.query_starts, np.int32).copy(),
            context_lens=context_lens,
            block_tables=np.frombuffer(self.block_tables, np.int32).reshape(len(context_lens), -1).copy(),
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
