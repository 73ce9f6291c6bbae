"""A deterministic runner without a model, for tests and for measuring overhead.

It keeps a pool of slots as the torch runner does, writes the step's tokens to `Batch.slots`, and derives each next
token from the slots that the block table refers to. So a scheduler that confuses blocks gets other tokens or an error.
"""

import math
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import outcome

from engine.errors import EngineError, ModelError
from engine.lora.adapters import PreparedAdapter
from engine.sampling.bad_words import completing
from engine.scheduling.batch import Batch, Sampled, SampleRow, ScoredToken, ScoreRows

Script = Callable[[SampleRow], tuple[int, float] | None]
"""Forces (token id, margin) of a sample; None leaves it to the runner."""
OnStep = Callable[[int, Batch], None]
"""Called before step n (from 0), so that tests can delay a step or make it fail."""

_EMPTY = -1
_BAN = -100.0
"""OpenAI's documentation defines this logit bias as a ban."""


class FakeRunner:
    """The next token is a hash of all tokens before it, and of the seed if the temperature is not 0."""

    def __init__(
        self,
        *,
        vocab_size: int = 512,
        block_size: int = 16,
        total_blocks: int = 1024,
        max_model_len: int = 4096,
        script: Script | None = None,
        on_step: OnStep | None = None,
        overlaps: bool = False,
        host_blocks: int = 0,
    ) -> None:
        """`overlaps`: implement `launch`, with tokens fed from the previous batch."""
        self.host_blocks = host_blocks
        self._host = np.full((host_blocks, block_size), _EMPTY, np.int64)
        self.block_size = block_size
        self.total_blocks = total_blocks
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        self.steps = 0
        self.closed = False
        self.overlaps = overlaps
        self._last: list[int] = []
        """Token ids chosen in the previous step."""
        self._script = script
        self._on_step = on_step
        self._slots = np.full(total_blocks * block_size, _EMPTY, np.int64)
        """Per slot the token whose KV it holds, xor a mark of the adapter it was computed with."""
        self.kv_bytes = self._slots.nbytes

    def execute(self, batch: Batch) -> Sampled:
        """Write the batch's tokens, then choose the samples' tokens.

        Raises EngineError: the batch is inconsistent, or reads slots that were not written.
        """
        if self.closed:
            raise EngineError("engine_closed", "the runner is closed")
        if self._on_step is not None:
            self._on_step(self.steps, batch)
        self.steps += 1
        self._check(batch)
        blocks = self._slots.reshape(-1, self.block_size)
        for move in batch.moves:
            if move.out:
                self._host[move.slot] = blocks[move.block]
                blocks[move.block] = _EMPTY
            else:
                blocks[move.block] = self._host[move.slot]
        self._slots[batch.slots] = self._fed(batch) ^ self._marks(batch)
        sampled = Sampled(token_ids=[], margins=[], logprobs=[])
        for sample in batch.samples:
            token_id, margin = (self._script(sample) if self._script else None) or self._choose(sample, batch)
            if sample.cap is not None and (forced := sample.cap.forced(sample.output_token_ids)) is not None:
                token_id, margin = forced, math.inf
            sampled.token_ids.append(token_id)
            sampled.margins.append(margin)
            sampled.logprobs.append(self._logprobs(sample, token_id, margin))
        self._last = sampled.token_ids
        sampled.scored = [token for requested in batch.scores for token in self._score(requested, batch)]
        return sampled

    def launch(self, batch: Batch) -> Callable[[], Sampled]:
        """See `OverlappingRunner`. The step runs at once, but results and errors are delivered by the returned call."""
        result = outcome.capture(self.execute, batch)
        return result.unwrap

    def _fed(self, batch: Batch) -> npt.NDArray[np.int64]:
        if batch.feeds is None:
            return batch.token_ids
        if batch.feeds.max() >= len(self._last):
            raise EngineError("batch_invalid", "the batch is fed by samples that there were not")
        fed = batch.feeds >= 0
        tokens = batch.token_ids.copy()
        tokens[fed] = np.array(self._last, np.int64)[batch.feeds[fed]]
        return tokens

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        """Accepts any files as an adapter. Raises ModelError: the folder is empty."""
        content = b"".join(path.read_bytes() for path in sorted(directory.glob("*")))
        if not content:
            raise ModelError("adapter_files", f"{directory} holds no adapter")
        return PreparedAdapter(digest=blake2b(content, digest_size=16).digest(), rank=1, memory_bytes=len(content))

    def close(self) -> None:
        self.closed = True

    def _check(self, batch: Batch) -> None:
        if len(batch.token_ids) != batch.query_starts[-1]:
            raise EngineError("batch_invalid", "the batch's sequences do not add up to its tokens")
        lengths = np.diff(batch.query_starts)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        in_sequence = np.arange(len(batch.token_ids)) - batch.query_starts[:-1][owners]
        positions = (batch.context_lens - lengths)[owners] + in_sequence
        blocks = batch.block_tables[owners, batch.positions // self.block_size].astype(np.int64)
        slots = blocks * self.block_size + batch.positions % self.block_size
        good = (
            lengths.min() > 0
            and np.array_equal(batch.positions, positions)
            and np.array_equal(batch.slots, slots)
            and len(np.unique(slots)) == len(slots)
            and blocks.min() > 0
            and batch.context_lens.max() <= self.max_model_len
            and all(sample.position == batch.positions[sample.row] + 1 for sample in batch.samples)
        )
        if not good:
            raise EngineError("batch_invalid", "the batch contradicts itself")

    @staticmethod
    def _marks(batch: Batch) -> npt.NDArray[np.int64]:
        """[T] adapter marks, which distinguish the KV of different adapters."""
        marks = np.zeros(len(batch.token_ids), np.int64)
        for rows in batch.adapters:
            marks[rows.start : rows.end] = int.from_bytes(rows.adapter.prepared.digest[:4], "little") << 24
        return marks

    def _choose(self, sample: SampleRow, batch: Batch) -> tuple[int, float]:
        params = sample.params
        key = sample.seed.to_bytes(8, "little") if params.temperature else b""
        number = int.from_bytes(
            blake2b(self._context(sample.row, sample.position, batch), digest_size=8, key=key).digest(), "little"
        )
        banned = {*sample.banned_token_ids, *completing(sample.bad_words, sample.output_token_ids)}
        banned.update(token_id for token_id, bias in params.logit_bias if bias <= _BAN)
        if sample.grammar is not None:
            allowed = np.flatnonzero(sample.grammar.allowed(sample.output_token_ids, self.vocab_size)).tolist()
            left = [token_id for token_id in allowed if token_id not in banned] or allowed
            return left[number % len(left)], (number >> 40) / 2**20 if len(left) > 1 else math.inf
        if params.allowed_token_ids:
            left = [token_id for token_id in params.allowed_token_ids if token_id not in banned]
            left = left or list(params.allowed_token_ids)
            return left[number % len(left)], (number >> 40) / 2**20
        first = number % self.vocab_size
        candidates = ((first + offset) % self.vocab_size for offset in range(self.vocab_size))
        return next(token_id for token_id in candidates if token_id not in banned), (number >> 40) / 2**20

    def _context(self, row: int, length: int, batch: Batch) -> bytes:
        owner = int(np.searchsorted(batch.query_starts, row, side="right")) - 1
        blocks = batch.block_tables[owner, : -(-length // self.block_size)].astype(np.int64)
        slots = (blocks[:, None] * self.block_size + np.arange(self.block_size)).ravel()[:length]
        tokens: npt.NDArray[np.int64] = self._slots[slots]
        if (tokens == _EMPTY).any():
            raise EngineError("batch_invalid", "the batch reads KV that was never written")
        return tokens.tobytes()

    def _score(self, requested: ScoreRows, batch: Batch) -> Iterator[ScoredToken]:
        """Scores derived from a hash of the preceding tokens."""
        for row, target in enumerate(requested.targets, requested.row):
            digest = blake2b(self._context(row, int(batch.positions[row]) + 1, batch), digest_size=8).digest()
            best = int.from_bytes(digest, "little") % self.vocab_size
            rank = 1 + (target - best) % self.vocab_size
            top = tuple(((best + place) % self.vocab_size, -0.5 - place) for place in range(requested.top))
            yield ScoredToken(target, 0.5 - rank, rank, top)

    def _logprobs(
        self, sample: SampleRow, token_id: int, margin: float
    ) -> tuple[float, tuple[tuple[int, float], ...]] | None:
        count = sample.params.logprobs
        if count is None:
            return None
        if sample.params.logprob_token_ids:
            # The farther from the chosen token, the less probable.
            wanted = sample.params.logprob_token_ids
            return -0.5, tuple((each, -0.5 - (each - token_id) % self.vocab_size) for each in wanted)
        best = ((token_id + rank) % self.vocab_size for rank in range(count))
        return -0.5, tuple((alternative, -0.5 - rank * margin) for rank, alternative in enumerate(best))
