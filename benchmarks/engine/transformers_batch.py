"""The GPU benchmark's workload by transformers' continuous batching, in this process, without HTTP."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import torch

_PAGE = 32
_WAIT_S = 1.0


class Peer(msgspec.Struct, frozen=True):
    """Result of transformers."""

    name: str
    output_tokens: int
    seconds: float
    output_tokens_per_s: float


def run(
    directory: Path,
    requests: Sequence[tuple[tuple[int, ...], int]],
    device: torch.device,
    *,
    step_tokens: int,
    temperature: float,
) -> Peer:
    """Run `requests` (prompt, output tokens) at once, end tokens ignored, after a short warm-up with the same ones.

    Raises:
        Exception: transformers is not installed, or fails in any way.
    """
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    model.eval().to(device)
    options: dict[str, Any] = {}
    if device.type == "cpu":
        # On a GPU it sizes its pool itself.
        blocks = sum(-(-(len(prompt) + output) // _PAGE) + 1 for prompt, output in requests)
        options = {"page_size": _PAGE, "num_blocks": blocks, "use_cuda_graph": False, "use_async_batching": False}
    manager = model.init_continuous_batching(
        generation_config=transformers.GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True, temperature=temperature, eos_token_id=-1, pad_token_id=0
        ),
        continuous_batching_config=transformers.ContinuousBatchingConfig(
            max_batch_tokens=step_tokens, max_requests_per_batch=len(requests), **options
        ),
    )
    manager.start()
    try:
        _answer(manager, [(prompt, min(output, 4)) for prompt, output in requests])
        started = perf_counter()
        made = _answer(manager, requests)
        seconds = perf_counter() - started
    finally:
        manager.stop(block=True)
    name = f"transformers {transformers.__version__}, continuous batching"
    return Peer(name, made, seconds, made / seconds)


def _answer(manager: Any, requests: Sequence[tuple[tuple[int, ...], int]]) -> int:
    """Number of generated tokens."""
    for prompt, output in requests:
        manager.add_request(list(prompt), max_new_tokens=output, eos_token_id=-1)
    left, made = len(requests), 0
    while left:
        result = manager.get_result(timeout=_WAIT_S)
        if result is None:
            if not manager.is_running():
                raise RuntimeError("its thread has ended before its answers")
            continue
        if result.error:
            raise RuntimeError(result.error)
        if result.is_finished():
            left -= 1
            made += len(result.generated_tokens)
    return made
