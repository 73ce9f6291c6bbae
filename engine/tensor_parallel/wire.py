"""What rank 0 and the other ranks of an engine write into each other's pipes: MessagePack in frames with a length."""

from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np

from config.model.settings import EngineSettings
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, SampleRow, ScoreRows

_LENGTH_BYTES = 8
T = TypeVar("T")
_NOBODY = SamplingParams(max_tokens=1)


class Setup(msgspec.Struct, frozen=True):
    """To a rank, first of all."""

    settings: EngineSettings
    """Its own: one device, one rank."""
    rank: int
    ranks: int
    store: str
    """The file by which the ranks find each other."""


class WorkerLoaded(msgspec.Struct, frozen=True, tag=True):
    """From a rank: it has its part of the model."""

    blocks: int
    """In its KV pool."""


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """From a rank, its last word: it has none."""

    code: str
    message: str


Word = WorkerLoaded | WorkerFailed


class Step(msgspec.Struct, frozen=True, array_like=True):
    """To a rank: what the next forward pass computes. Arrays as in `Batch`."""

    token_ids: bytes
    positions: bytes
    slots: bytes
    query_starts: bytes
    context_lens: bytes
    block_tables: bytes
    rows: list[int]
    """Of which logits are wanted."""
    scores: list[tuple[int, int]]
    """First row and number of rows of each prompt whose tokens are scored: the head is asked in the same pieces."""

    @classmethod
    def of(cls, batch: Batch) -> "Step":
        """All of it that a rank without a sampler needs."""
        return cls(
            batch.token_ids.tobytes(),
            batch.positions.tobytes(),
            batch.slots.tobytes(),
            batch.query_starts.tobytes(),
            batch.context_lens.tobytes(),
            batch.block_tables.tobytes(),
            [sample.row for sample in batch.samples],
            [(each.row, len(each.targets)) for each in batch.scores],
        )

    def batch(self) -> Batch:
        """As the decoder takes it."""
        context_lens = np.frombuffer(self.context_lens, np.int32).copy()
        return Batch(
            token_ids=np.frombuffer(self.token_ids, np.int64).copy(),
            positions=np.frombuffer(self.positions, np.int64).copy(),
            slots=np.frombuffer(self.slots, np.int64).copy(),
            query_starts=np.frombuffer(self.query_starts, np.int32).copy(),
            context_lens=context_lens,
            block_tables=np.frombuffer(self.block_tables, np.int32).reshape(len(context_lens), -1).copy(),
            samples=[SampleRow(row, _NOBODY, 0, 0, (), []) for row in self.rows],
            scores=[ScoreRows(row, (0,) * count, 0) for row, count in self.scores],
        )


def frame(message: msgspec.Struct) -> bytes:
    """What goes into the pipe."""
    body = msgspec.msgpack.encode(message, enc_hook=_plain)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


def read_frame(pipe: BinaryIO, kind: type[T]) -> T | None:
    """The next message; None: the other side is gone."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    body = pipe.read(length)
    if len(body) < length:
        return None
    return msgspec.msgpack.decode(body, type=kind, dec_hook=lambda type_, value: type_(value))


def _plain(value: Any) -> Any:
    """Sizes, durations and paths are read back as what they are."""
    for kind in (float, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError
