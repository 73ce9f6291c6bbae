"""Replay of decode steps as CUDA graphs: one launch instead of hundreds, without host overhead per kernel."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engine.forward.decoder import Decoder
from engine.gpu.graph_sizes import captured_sizes, fitting_size
from engine.scheduling.batch import Batch, blank_batch, only_decodes

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records work, which must not use the host, for replay over the same buffers. Returns a replay function and the
result, which a replay overwrites."""


class CudaCapture:
    """CUDA graphs that share one memory pool; later graphs do not reuse the memory of retained results."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Capture`. `thread_local`: threads of other engines may use the device during the capture."""
        with torch.cuda.device(self._device):
            # A first run outside of the graph for what happens only once: compiling kernels, library workspaces.
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                work()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = work()
        return graph.replay, out


class GraphDecoder:
    """Replays pure decode steps, padded to the next captured size; other steps run eagerly.

    Steps with adapters run eagerly, too, because their products differ from step to step. Only the layers are captured:
    captured logits would take [size, vocab] of memory for every size.
    """

    def __init__(
        self,
        decoder: Decoder,
        capture: Capture,
        *,
        max_sequences: int,
        device: torch.device,
        progress: Callable[[str], None],
    ) -> None:
        """Capture all sizes, the largest first, so that smaller graphs reuse its memory from the pool."""
        self._decoder = decoder
        self._sizes = captured_sizes(max_sequences)
        self._ids = torch.zeros(max_sequences, dtype=torch.int64, device=device)
        self._graphs: dict[int, tuple[Callable[[], None], Tensor]] = {}
        self.replays = 0
        for place, size in enumerate(reversed(self._sizes)):
            progress(f"capturing graph {place + 1} of {len(self._sizes)}: {size} sequences")
            decoder.prepare(blank_batch([1] * size, 1), size)
            self._graphs[size] = capture(partial(decoder.layers, self._ids[:size]))

    def forward(self, batch: Batch, ids: Tensor) -> Tensor:
        count = len(ids)
        size = fitting_size(self._sizes, count) if only_decodes(batch) and not batch.adapters else None
        if size is None:
            return self._decoder.forward(batch, ids)
        replay, out = self._graphs[size]
        self._ids[:count] = ids
        self._ids[count:size] = 0
        self._decoder.prepare(batch, size)
        replay()
        self.replays += 1
        return self._decoder.logits(out[:count])
