"""Decode speed of a GPU relative to its memory bandwidth, and throughput under nano-vllm's workload.

    python -m benchmarks.engine.gpu [--device cuda:0] [--models DIR] [--json FILE]

Random weights in bfloat16, in the shapes of Qwen3-0.6B and Llama-3.1-8B. Decode: `batch` sequences of 512 tokens, timed
over 128 steps in which all of them decode; the floor is the bytes that such a step must read (weights once, the KV of
every sequence) over the bandwidth of a large copy in the same run. Workload: 256 requests of 100 to 1,024 tokens in and
out, seeded, all at once, sampled at temperature 0.6. Both run with CUDA graphs and overlap, and without either.
transformers' continuous batching then runs the same workload on the same weights, and the table states the ratio.
`--tiny` runs everything in seconds on a CPU, as a smoke test.
"""

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean
from time import perf_counter
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.engine import transformers_batch
from benchmarks.engine.make_model import tensors
from config.model.settings import EngineSettings, GpuSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.messages import Submit
from engine.sampling.params import SamplingParams

SHAPES: dict[str, dict[str, Any]] = {
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": True, "vocab_size": 151_936, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    },
    "Llama-3.1-8B": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": False, "vocab_size": 128_256, "rope_theta": 5e5, "rms_norm_eps": 1e-5,
    },
    "tiny": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "tie_word_embeddings": True, "vocab_size": 300, "rope_theta": 1e4, "rms_norm_eps": 1e-6,
    },
}  # fmt: skip

_TEMPERATURE = 0.6
_FIRST = 1000
"""Number of the workload's first request, and the seed of its prompts."""


class Decode(msgspec.Struct, frozen=True):
    shape: str
    batch: int
    graphs: bool
    overlap: bool
    step_ms: float
    floor_ms: float
    share: float
    """Floor divided by measured time; 1 would be perfect."""
    output_tokens_per_s: float


class Workload(msgspec.Struct, frozen=True):
    shape: str
    requests: int
    graphs: bool
    overlap: bool
    output_tokens: int
    seconds: float
    output_tokens_per_s: float


class Report(msgspec.Struct, frozen=True):
    device: str
    torch: str
    copy_gb_per_s: float
    decodes: tuple[Decode, ...]
    workloads: tuple[Workload, ...]
    peer: transformers_batch.Peer | None
    """The same workload, by transformers."""
    no_peer: str
    """Why it was not measured."""

    def table(self) -> str:
        lines = [
            f"{self.device}, torch {self.torch}; a large copy moves {self.copy_gb_per_s:.0f} GB/s",
            "",
            "| decode | graphs, overlap | step ms | floor ms | share | output tokens/s |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
        for it in self.decodes:
            lines.append(
                f"| {it.shape} × {it.batch} | {_words(it)} | {it.step_ms:.3f} | {it.floor_ms:.3f} | "
                f"{it.share:.0%} | {it.output_tokens_per_s:.0f} |"
            )
        lines += [
            "",
            "| workload | graphs, overlap | output tokens | s | output tokens/s |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
        for result in self.workloads:
            lines.append(
                f"| {result.shape}, {result.requests} requests | {_words(result)} | {result.output_tokens} | "
                f"{result.seconds:.1f} | {result.output_tokens_per_s:.0f} |"
            )
        if self.peer is None:
            return "\n".join([*lines, "", f"not compared with transformers: {self.no_peer}"])
        peer = self.peer
        lines.append(
            f"| the same | {peer.name} | {peer.output_tokens} | {peer.seconds:.1f} | {peer.output_tokens_per_s:.0f} |"
        )
        for result in self.workloads:
            times = result.output_tokens_per_s / peer.output_tokens_per_s
            lines += ["", f"{times:.2f} times the output tokens/s of {peer.name} (with {_words(result)})"]
        return "\n".join(lines)


def _words(it: Decode | Workload) -> str:
    return " and ".join(name for name, on in (("graphs", it.graphs), ("overlap", it.overlap)) if on) or "neither"


def write_model(name: str, directory: Path) -> Path:
    """A model directory with deterministic weights; an existing one is reused."""
    shape = SHAPES[name]
    target = directory / name.lower()
    if (target / "tokenizer.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    weights = tensors(shape, torch.bfloat16, qk_norm=shape["model_type"] == "qwen3")
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = {"hidden_act": "silu", "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "eos_token_id": 1}
    (target / "config.json").write_text(json.dumps({**config, **shape}))
    words = Tokenizer(models.WordLevel({f"▁w{token}": token for token in range(shape["vocab_size"])}, unk_token="▁w0"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    words.save(str(target / "tokenizer.json"))
    return target


def weight_bytes(name: str) -> int:
    """Bytes of weights that a decode step reads: all but the embedding, unless it is tied to the head."""
    shape = SHAPES[name]
    hidden, dim = shape["hidden_size"], shape["head_dim"]
    attention = (2 * shape["num_attention_heads"] + 2 * shape["num_key_value_heads"]) * dim * hidden
    layer = attention + 3 * hidden * shape["intermediate_size"]
    parameters: int = shape["num_hidden_layers"] * layer + shape["vocab_size"] * hidden
    return 2 * parameters


def kv_bytes(name: str, tokens: float) -> float:
    """Bytes of keys and values of `tokens` tokens."""
    shape = SHAPES[name]
    width: int = shape["num_hidden_layers"] * shape["num_key_value_heads"] * shape["head_dim"]
    return 4 * width * tokens


def copy_rate(device: torch.device, *, size: int) -> float:
    """Bytes read and written per second by a copy within device memory, the best of ten."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        started = perf_counter()
        target.copy_(source)
        _wait(device)
        best = min(best, perf_counter() - started)
    return 2 * source.numel() * 4 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load(arguments: argparse.Namespace, model: Path, name: str, *, running: int, tokens: int, fast: bool) -> Engine:
    """An engine for `running` sequences with `tokens` of KV in total; `fast`: with graphs and overlap."""
    settings = EngineSettings(
        model=model,
        device=arguments.device,
        kv=KVSettings(memory=Bytes(int(kv_bytes(name, tokens + 32 * (running + 2))))),
        gpu=GpuSettings(graphs=fast, overlap=fast),
        max_running=running,
        max_step_tokens=max(arguments.step_tokens, running),
        prefill_chunk=arguments.step_tokens,
        max_model_len=4096,
        prefix_cache=False,
    )
    return Engine.load(
        settings, name, lambda text: print(f"  {name}: {text}", flush=True) if arguments.verbose else None
    )


def submit(engine: Engine, first: int, sizes: Sequence[tuple[int, int]], vocab: int, temperature: float) -> None:
    for index, (prompt, output) in enumerate(prompts(first, sizes, vocab)):
        params = SamplingParams(max_tokens=output, temperature=temperature, ignore_eos=True, seed=index)
        engine.submit(Submit(sequence_id=first + index, prompt_token_ids=prompt, params=params))


def finish(engine: Engine) -> None:
    """Step until there is no work."""
    while engine.has_work:
        engine.step()


def prompts(seed: int, sizes: Sequence[tuple[int, int]], vocab: int) -> list[tuple[tuple[int, ...], int]]:
    """(random prompt, output tokens) per request."""
    rng = Random(seed)
    return [(tuple(rng.randrange(2, vocab) for _ in range(prompt)), output) for prompt, output in sizes]


def decode(arguments: argparse.Namespace, model: Path, name: str, batch: int, rate: float, *, fast: bool) -> Decode:
    """Steps are timed from report to report, while every sequence gets one token per step."""
    steps, context = arguments.steps, arguments.context
    tokens = batch * (context + steps + 32)
    engine = load(arguments, model, name, running=batch, tokens=tokens, fast=fast)
    vocab = SHAPES[name]["vocab_size"]
    submit(engine, 0, [(context, 4)] * batch, vocab, 0.0)
    finish(engine)
    submit(engine, batch, [(context, steps + 16)] * batch, vocab, 0.0)
    got = [0]
    times: list[float] = []
    while engine.has_work:
        report = engine.step()
        times.append(perf_counter())
        got.append(sum(len(delta.token_ids) for delta in report.deltas))
    engine.close()
    whole = [index for index, count in enumerate(got[1:]) if count == batch][4:-4]
    spans = [times[index] - times[index - 1] for index in whole]
    step_s = mean(spans)
    floor_s = (weight_bytes(name) + kv_bytes(name, batch * (context + steps / 2))) / rate
    return Decode(name, batch, fast, fast, 1e3 * step_s, 1e3 * floor_s, floor_s / step_s, batch / step_s)


def workload(arguments: argparse.Namespace, model: Path, name: str, *, fast: bool) -> Workload:
    """nano-vllm's workload: all requests at once, lengths uniform between 100 and 1,024."""
    sizes = _sizes(arguments)
    tokens = sum(prompt + output for prompt, output in sizes)
    engine = load(arguments, model, name, running=arguments.requests, tokens=tokens, fast=fast)
    submit(engine, 0, [(arguments.least, 4)] * 4, SHAPES[name]["vocab_size"], _TEMPERATURE)
    finish(engine)
    started = perf_counter()
    submit(engine, _FIRST, sizes, SHAPES[name]["vocab_size"], _TEMPERATURE)
    made = 0
    while engine.has_work:
        made += sum(len(delta.token_ids) for delta in engine.step().deltas)
    seconds = perf_counter() - started
    engine.close()
    return Workload(name, len(sizes), fast, fast, made, seconds, made / seconds)


def _sizes(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    rng = Random(0)
    low, high = arguments.least, arguments.most
    return [(rng.randint(low, high), rng.randint(low, high)) for _ in range(arguments.requests)]


def by_transformers(
    arguments: argparse.Namespace, model: Path, name: str
) -> tuple[transformers_batch.Peer | None, str]:
    """The same workload by transformers; or why it cannot run."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        return transformers_batch.run(
            model,
            prompts(_FIRST, _sizes(arguments), SHAPES[name]["vocab_size"]),
            torch.device(arguments.device),
            step_tokens=arguments.step_tokens,
            temperature=_TEMPERATURE,
        ), ""
    except Exception as error:  # noqa: BLE001  (whatever another's code says, ours is measured)
        return None, f"{type(error).__name__}: {error}"


def measure(arguments: argparse.Namespace) -> Report:
    device = torch.device(arguments.device)
    rate = copy_rate(device, size=arguments.copy_bytes)
    decodes: list[Decode] = []
    for name in arguments.shapes:
        model = write_model(name, arguments.models)
        for batch in arguments.batches:
            decodes += [decode(arguments, model, name, batch, rate, fast=fast) for fast in (True, False)]
    name = arguments.shapes[0]
    model = write_model(name, arguments.models)
    workloads = [workload(arguments, model, name, fast=fast) for fast in (True, False)]
    peer, no_peer = by_transformers(arguments, model, name)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    return Report(named, str(torch.__version__), rate / 1e9, tuple(decodes), tuple(workloads), peer, no_peer)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Decode against the memory floor, and nano-vllm's workload, on a GPU.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--models", type=Path, default=Path.home() / ".cache" / "penstock" / "models")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["Qwen3-0.6B", "Llama-3.1-8B"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--context", type=int, default=512, help="prompt tokens of a decoding sequence")
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--step-tokens", type=int, default=8192)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--least", type=int, default=100)
    parser.add_argument("--most", type=int, default=1024)
    parser.add_argument("--copy-bytes", type=int, default=2**31)
    parser.add_argument("--json", type=Path, help="write the report to this file as well")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, short, on the CPU: does it run?")
    arguments = parser.parse_args(words)
    if arguments.tiny:
        small = {"device": "cpu", "shapes": ["tiny"], "batches": [1, 3], "context": 20, "steps": 12, "step_tokens": 64}
        vars(arguments).update({**small, "requests": 4, "least": 5, "most": 12, "copy_bytes": 2**20})
    elif not torch.cuda.is_available() and arguments.device.startswith("cuda"):
        parser.error("no CUDA device is usable here; --tiny checks on a CPU that the benchmark itself runs")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse(words)
    report = measure(arguments)
    print(report.table())
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


if __name__ == "__main__":
    main()
