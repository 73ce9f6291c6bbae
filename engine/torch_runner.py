"""A decoder model behind the `Runner` interface: weights, KV pool and sampler, one `execute` call per step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.forward.choice import choose_kernels, choose_pick, make_kernels
from engine.forward.cpu import CpuKernels
from engine.forward.decoder import Decoder
from engine.forward.graphs import Capture, CudaCapture, GraphDecoder
from engine.gpu.async_copy import AsyncCopy, to_device
from engine.kernels.simd import has_bfloat16_products
from engine.lora.adapters import PreparedAdapter
from engine.lora.deltas import AdapterReader
from engine.memory.gpu_memory import check_memory
from engine.memory.kv_pool import KvPool
from engine.memory.kv_swap import KvSwap
from engine.memory.resources import resolve_alone
from engine.model.checkpoint import Checkpoint
from engine.model.model_config import ModelConfig, read_model_config
from engine.quantization.config import Quantization, quantization, read_quantization
from engine.quantization.scheme import scheme_of
from engine.sampler.device_sampler import choose
from engine.sampler.prompt_scores import pieces, score
from engine.sampler.sampler import sample
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Sampled, SampleRow, blank_batch, chosen_by_device, sampled_rows
from engine.threads import set_threads
from engine.weights.decoder_weights import WeightLoader
from engine.weights.linear import LinearFactory
from engine.weights.shard import Shard
from engine.weights.shard_weights import ShardLoader


class TorchRunner:
    """One loaded model with its KV pool. Must be built and used in the same thread."""

    def __init__(
        self,
        settings: EngineSettings,
        progress: Callable[[str], None],
        shard: Shard | None = None,
        *,
        capture: Capture | None = None,
        makes_text: bool = True,
    ) -> None:
        """`shard`: this rank's part of the model under tensor parallelism; None: the whole model.

        `makes_text` False: only `hidden` is called.

        `capture`: how decode steps are recorded for replay; None: CUDA graphs on a GPU, no recording elsewhere.
        """
        settings = resolve_alone(settings)
        set_threads(settings.threads)
        device = open_device(settings.device)
        whole = read_model_config(settings.model, settings.ignore_config_keys)
        config = whole if shard is None else shard.config(whole)
        quantized = _quantization(settings, device)
        if shard is not None and (quantized is not None or settings.kv.swap):
            what = "kv.swap" if quantized is None else f"weights of {quantized}"
            raise ModelError("tensor_parallel", f"several ranks cannot have {what}: leave one of the two out")
        with torch.inference_mode(), Checkpoint(settings.model, base="model.") as checkpoint:
            dtype = compute_dtype(settings, checkpoint.dtype("model.embed_tokens.weight"), device)
            linears = LinearFactory(device, dtype, settings.threads, invariant=settings.batch_invariant)
            kind = choose_kernels(settings, config, device, dtype)
            linears.compile(
                progress,
                paged=str(_kv_dtype(settings, dtype)).removeprefix("torch.") if kind == "compiled" else None,
                bits=() if quantized is None else {rule.scheme.bits for rule in quantized.rules},
            )
            unfit = CpuKernels.unfit(config, settings.kv.block_size, device, dtype)
            if kind == "portable" and device.type == "cpu" and not settings.batch_invariant:
                progress(
                    f"plain torch computes ({unfit or 'as gpu.kernels asks'}): an answer's bytes may depend on its "
                    "company; batch_invariant = true makes them independent, and slower"
                )
            if kind == "portable" and settings.gpu.kernels == "auto" and device.type == "cuda":
                progress(
                    'plain torch computes, slowly: Triton is not installed (pip install "penstock[gpu]"), or kv.dtype '
                    "is not that of the model"
                )
            self.dtype = str(dtype).removeprefix("torch.")
            self.quantization = None if quantized is None else str(quantized)
            self.block_size = settings.kv.block_size
            self.vocab_size = config.vocab_size
            stated = stated_length(settings, config.max_positions, "'s max_position_embeddings")
            self.max_model_len = stated or config.max_positions
            if (message := _longrope_message(config, self.max_model_len)) is not None:
                progress(message)
            self._device = device
            self.overlaps = device.type == "cuda" and settings.gpu.overlap and shard is None
            self._pick = choose_pick(kind)
            self._last = torch.zeros(1, dtype=torch.int64, device=device)
            """[samples] int64: token ids that the device chose in the previous batch."""
            self._adapters = None
            if shard is None:
                self._adapters = AdapterReader(config, linears, max_rank=settings.max_adapter_rank)
                loader = WeightLoader(checkpoint, whole, linears, quantized)
            else:
                loader = ShardLoader(checkpoint, whole, linears, shard)
            weights = loader.load(progress, settings.ignore_tensors, makes_text=makes_text)
            if device.type == "cuda":
                check_memory(settings, config, dtype, free_bytes=torch.cuda.mem_get_info(device)[0])
            pool = KvPool(
                config,
                memory_bytes=settings.kv.memory,
                block_size=settings.kv.block_size,
                dtype=_kv_dtype(settings, dtype),
                device=device,
                transposed_keys=kind == "compiled",
            )
            self.total_blocks = pool.blocks
            self.kv_bytes = pool.nbytes
            self.host_blocks = _host_blocks(settings, pool, device)
            self._swap: KvSwap | None = KvSwap(pool.tensors, self.host_blocks) if self.host_blocks else None
            kernels = make_kernels(
                kind,
                settings,
                config,
                pool,
                max_len=min(self.max_model_len, pool.tokens),
                max_model_len=self.max_model_len,
                dtype=dtype,
                tile=linears.tile,
            )
        if shard is not None:
            progress("waiting for the other ranks")
            shard.connect(self.total_blocks)
        progress("warming up")
        pad_single = not (linears.own or linears.tile) and device.type == "cpu"
        decoder = Decoder(weights, kernels, device, pad_single=pad_single, logit_cap=config.logit_cap)
        self._decoder: Decoder | GraphDecoder | None = decoder
        self._plain: Decoder | None = decoder
        """The decoder without graph replay."""
        if makes_text:
            self._warm_up()
        else:
            self.hidden(blank_batch([2], self.block_size), [(0, 2)])
        if capture is None and device.type == "cuda" and kind == "triton" and shard is None:
            capture = CudaCapture(device)
        # Routing to experts is known on the device only but decides what the host launches, so a graph cannot hold it.
        if capture is not None and settings.gpu.graphs and config.experts is None and makes_text:
            with torch.inference_mode():
                self._decoder = GraphDecoder(
                    decoder, capture, max_sequences=settings.max_running, device=device, progress=progress
                )

    def _warm_up(self) -> None:
        """Run a prefill, a decode and each sampling path in the scratch block: no request then waits for a compiler."""
        params = [SamplingParams(max_tokens=1, temperature=temperature) for temperature in (0.0, 1.0)]
        rows = [SampleRow(0, each, seed=0, position=1, prompt_token_ids=(0,), output_token_ids=[]) for each in params]
        with torch.inference_mode():
            for tokens in (min(2, self.max_model_len), 1):
                logits = self._forward(blank_batch([tokens], self.block_size, rows))
            if self.overlaps:
                for count in (1, 2):
                    AsyncCopy(choose(logits[:count], rows[:count], self._pick)).result()
        sample(np.zeros((2, self.vocab_size), np.float32), rows)

    def execute(self, batch: Batch) -> Sampled:
        if batch.scores:
            return self._scored(batch)
        table = self.logits(batch)
        if not batch.samples:
            return Sampled(token_ids=[], margins=[], logprobs=[])
        return sample(table, batch.samples)

    def _scored(self, batch: Batch) -> Sampled:
        with torch.inference_mode():
            logits_of = self._head(batch)
            scored = score(logits_of, batch.scores)
            if not batch.samples:
                return Sampled(token_ids=[], margins=[], logprobs=[], scored=scored)
            table = logits_of(sampled_rows(batch)).float().cpu().contiguous().numpy()
        sampled = sample(table, batch.samples)
        sampled.scored = scored
        return sampled

    def logits(self, batch: Batch) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Run one forward pass and write its KV. Return the logits [samples, vocab] of the rows in `batch.samples`."""
        with torch.inference_mode():
            return self._forward(batch).float().cpu().contiguous().numpy()

    def follow(self, batch: Batch) -> None:
        """Compute the same products in the same order as `execute`, on a rank that does not receive the logits."""
        with torch.inference_mode():
            if not batch.scores:
                self._forward(batch)
                return
            logits_of = self._head(batch)
            for rows in pieces(batch.scores):
                logits_of(rows)
            if batch.samples:
                logits_of(sampled_rows(batch))

    def hidden(self, batch: Batch, rows: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.float32]]:
        """Run the layers and write their KV. For each (first row, count) the normed output [count, hidden]."""
        with torch.inference_mode():
            ids = self._ids(batch)
            assert self._plain is not None
            x = self._plain.hidden(batch, ids)
            return [x[first : first + count].float().cpu().numpy().copy() for first, count in rows]

    def _head(self, batch: Batch) -> Callable[[npt.NDArray[np.int64]], Tensor]:
        """Run the layers. Returns a function from row indices of the batch to their logits."""
        ids = self._ids(batch)
        assert self._plain is not None
        return partial(self._plain.logits_of, self._plain.hidden(batch, ids))

    def launch(self, batch: Batch) -> Callable[[], Sampled]:
        """See `OverlappingRunner.launch`. If the device cannot choose a sample, the batch is executed synchronously."""
        if batch.scores or not all(chosen_by_device(row) for row in batch.samples):
            sampled = self.execute(batch)
            return lambda: sampled
        with torch.inference_mode():
            logits = self._forward(batch)
            if not batch.samples:
                return lambda: Sampled(token_ids=[], margins=[], logprobs=[])
            chosen = choose(logits, batch.samples, self._pick)
            self._last = chosen.token_ids
            return AsyncCopy(chosen).result

    def _forward(self, batch: Batch) -> Tensor:
        ids = self._ids(batch)
        assert self._decoder is not None
        return self._decoder.forward(batch, ids)

    def _ids(self, batch: Batch) -> Tensor:
        """Apply `batch.moves`, resolve `batch.feeds`, and return the token ids [tokens] int64 on the device."""
        if self._decoder is None:
            raise ModelError("engine_closed", "the engine is closed")
        if self._swap is not None:
            self._swap.apply(batch.moves)
        ids = to_device(batch.token_ids, self._device)
        if batch.feeds is not None:
            feeds = to_device(batch.feeds.astype(np.int64), self._device)
            ids = torch.where(feeds >= 0, self._last[feeds.clamp(min=0)], ids)
        return ids

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        if self._adapters is None:
            raise ModelError("adapter_unsupported", f"{directory}: adapters are not served with tensor_parallel")
        return self._adapters.read(directory)

    def close(self) -> None:
        self._decoder = self._plain = None
        self._swap = None


def open_device(name: str) -> torch.device:
    """Open a torch device. Raises ModelError if it cannot be used."""
    try:
        device = torch.empty(0, device=name).device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # per thread: Triton and graph capture use the current device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError("device", f'device = "{name}" cannot be used: {reason}; "cpu" always can') from error
    return device


def compute_dtype(settings: EngineSettings, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Dtype to compute in. `auto`: float32 for float32 files, else bfloat16 if the processor multiplies it natively.

    Raises ModelError: the settings name a type that the processor does not compute in.
    """
    native = device.type != "cpu" or has_bfloat16_products()
    if settings.dtype == "float32":
        return torch.float32
    if settings.dtype == "bfloat16":
        if not native:
            raise ModelError("dtype", 'this processor does not compute in bfloat16; use dtype = "float32" or "auto"')
        return torch.bfloat16
    return torch.bfloat16 if stored != torch.float32 and native else torch.float32


def _quantization(settings: EngineSettings, device: torch.device) -> Quantization | None:
    """The quantization of the files or of the settings; stating the same one twice is allowed."""
    stored = read_quantization(settings.model)
    requested = None
    if settings.quantization is not None:
        requested = quantization(scheme_of(settings.quantization, settings.quantization_group))
    if (stored or requested) and device.type != "cpu":
        message = f'quantized weights are computed on the CPU only; device is "{settings.device}"'
        raise ModelError("quantization", message)
    if stored and requested and stored.rules != requested.rules:
        raise ModelError(
            "quantization",
            f"{settings.model} is quantized already, as {stored}, which cannot become {requested}; "
            "leave quantization out",
        )
    return stored or requested


def _host_blocks(settings: EngineSettings, pool: KvPool, device: torch.device) -> int:
    if settings.kv.swap and device.type == "cpu":
        raise ModelError(
            "kv_swap",
            f"kv.swap = {settings.kv.swap} bytes keeps blocks of a GPU in host memory, and this engine's device is the "
            "CPU, whose blocks are there already; raise kv.memory instead",
        )
    return KvSwap.slots(pool.tensors, settings.kv.swap)


def _kv_dtype(settings: EngineSettings, dtype: torch.dtype) -> torch.dtype:
    """The dtype of the KV pool; `auto` is the compute dtype."""
    dtypes = {"auto": dtype, "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    return dtypes[settings.kv.dtype]


def _longrope_message(config: ModelConfig, longest: int) -> str | None:
    """A message about which of LongRoPE's two sets of factors is used; None if the model has only one."""
    rope = config.rope
    if rope.type != "longrope" or rope.short_factors == rope.long_factors:
        return None
    if longest <= rope.original_max_position:
        return f"longrope: the short factors hold, because no sequence is longer than {longest} tokens"
    return (
        f"longrope: the long factors hold, for short prompts, too, because sequences may have {longest} tokens; with "
        f"max_model_len = {rope.original_max_position} the short ones would"
    )


def stated_length(settings: EngineSettings, positions: int, what: str) -> int | None:
    """`max_model_len` of the settings. Raises ModelError if that is more than `positions`, `what` in words."""
    longest = settings.max_model_len
    if longest is not None and longest > positions:
        raise ModelError("max_model_len", f"max_model_len = {longest} is more than the model{what}, {positions}")
    return longest
