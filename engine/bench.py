"""Benchmark of the bare engine, without HTTP: output tokens per second, time to first token, inter-token latency."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import msgspec

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.messages import Submit
from engine.model.model_config import ModelConfig, read_model_config
from engine.sampling.params import SamplingParams
from engine.text.tokenizer import Tokenizer

_KV_LIMIT = 8 * 2**30


class BenchShape(msgspec.Struct, frozen=True):
    """Lengths of one request, in tokens."""

    prompt: int
    output: int


class WorkloadReport(msgspec.Struct, frozen=True):
    """Results of one workload. All requests are submitted at its start, and TTFT is measured from there."""

    name: str
    requests: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    output_tokens_per_s: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    itl_ms_p50: float
    itl_ms_p99: float
    steps: int
    preemptions: int
    drafted_tokens: int
    accepted_tokens: int


class BenchReport(msgspec.Struct, frozen=True):
    """All workloads of one run, and the machine and settings they ran with."""

    model: str
    machine: str
    torch: str
    dtype: str
    """The compute dtype, followed by the quantization scheme of the weights if there is one."""
    threads: int
    load_s: float
    workloads: tuple[WorkloadReport, ...]

    def table(self) -> str:
        head = (
            f"{self.model}: {self.dtype}, {self.threads} thread(s), torch {self.torch}, loaded in {self.load_s:.1f} s; "
            f"{self.machine}"
        )
        rows = [
            "| workload | output tokens/s | TTFT p50 / p99 ms | ITL p50 / p99 ms |",
            "| --- | ---: | ---: | ---: |",
        ]
        for it in self.workloads:
            rows.append(
                f"| {it.name} | {it.output_tokens_per_s:.0f} | {it.ttft_ms_p50:.0f} / {it.ttft_ms_p99:.0f} | "
                f"{it.itl_ms_p50:.1f} / {it.itl_ms_p99:.1f} |"
            )
        return "\n".join([head, "", *rows])


def run_bench(
    model: Path,
    *,
    threads: int = 1,
    overrides: dict[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> BenchReport:
    """Load `model` and run three workloads: greedy, end tokens ignored, random prompts from a fixed seed.

    `overrides` are fields of `EngineSettings`. The KV pool is sized for the workload with the most tokens. Raises
    ModelError: the directory cannot be served.
    """
    report = progress or (lambda _: None)
    config = read_model_config(model, None)
    workloads = _workloads(config.max_positions)
    values: dict[str, Any] = {"kv": KVSettings(memory=Bytes(_kv_bytes(config, workloads))), **(overrides or {})}
    settings = EngineSettings(model=model, threads=threads, **values)
    started = perf_counter()
    import torch

    from engine.torch_runner import TorchRunner

    runner = TorchRunner(settings, report)
    engine = Engine(runner, Tokenizer.load(model), settings, name="bench", seed=0)
    loaded = perf_counter() - started
    rng = Random(0)  # noqa: S311 - fixed seed on purpose
    _run(engine, "warm-up", [BenchShape(min(64, config.max_positions // 2), 8)] * 2, rng, config.vocab_size)
    reports = []
    for name, shapes in workloads.items():
        report(f"running {name}")
        reports.append(_run(engine, name, shapes, rng, config.vocab_size))
    engine.close()
    return BenchReport(
        model=str(model),
        machine=machine(),
        torch=str(torch.__version__),
        dtype=runner.dtype if runner.quantization is None else f"{runner.dtype}, weights {runner.quantization}",
        threads=threads,
        load_s=loaded,
        workloads=tuple(reports),
    )


def machine() -> str:
    """The processor's model name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} core(s)"


def _workloads(longest: int) -> dict[str, list[BenchShape]]:
    """The workloads by name; all lengths are scaled down if `longest`, the model's maximum, is below 768 tokens."""
    rng = Random(32)  # noqa: S311 - fixed seed on purpose
    mix = [BenchShape(rng.randint(32, 512), rng.randint(16, 256)) for _ in range(32)]
    scale = min(1.0, longest / (512 + 256))

    def fit(shape: BenchShape) -> BenchShape:
        return BenchShape(max(1, int(shape.prompt * scale)), max(2, int(shape.output * scale)))

    even = fit(BenchShape(128, 128))
    size = f"{even.prompt} in, {even.output} out"
    return {
        f"1 stream, {size}": [even],
        f"16 streams, {size}": [even] * 16,
        f"32 mixed, {int(32 * scale)}-{int(512 * scale)} in, {int(16 * scale)}-{int(256 * scale)} out": [
            fit(shape) for shape in mix
        ],
    }


def _kv_bytes(config: ModelConfig, workloads: dict[str, list[BenchShape]]) -> int:
    tokens = max(sum(shape.prompt + shape.output + 32 for shape in shapes) for shapes in workloads.values())
    return min(_KV_LIMIT, 2 * config.layers * config.kv_heads * config.head_dim * 4 * (tokens + 64))


def _run(engine: Engine, name: str, shapes: list[BenchShape], rng: Random, vocab: int) -> WorkloadReport:
    before = engine.stats()
    prompts = [tuple(rng.randrange(vocab) for _ in range(shape.prompt)) for shape in shapes]
    first_id = before.prompt_tokens_total * 1000  # unique: grows with every workload
    started = perf_counter()
    for index, (shape, prompt) in enumerate(zip(shapes, prompts, strict=True)):
        params = SamplingParams(max_tokens=shape.output, temperature=0, ignore_eos=True)
        engine.submit(Submit(sequence_id=first_id + index, prompt_token_ids=prompt, params=params))
    last: dict[int, float] = {}
    ttft: list[float] = []
    itl: list[float] = []
    tokens = 0
    while engine.has_work:
        report = engine.step()
        now = perf_counter()
        for delta in report.deltas:
            earlier = last.get(delta.sequence_id)
            if earlier is None:
                ttft.append(now - started)
            else:
                itl += [(now - earlier) / len(delta.token_ids)] * len(delta.token_ids)
            last[delta.sequence_id] = now
            tokens += len(delta.token_ids)
    seconds = perf_counter() - started
    after = engine.stats()
    return WorkloadReport(
        name=name,
        requests=len(shapes),
        prompt_tokens=sum(shape.prompt for shape in shapes),
        output_tokens=tokens,
        seconds=seconds,
        output_tokens_per_s=tokens / seconds,
        ttft_ms_p50=_percentile(ttft, 0.50),
        ttft_ms_p99=_percentile(ttft, 0.99),
        itl_ms_p50=_percentile(itl, 0.50),
        itl_ms_p99=_percentile(itl, 0.99),
        steps=after.steps_total - before.steps_total,
        preemptions=after.preemptions_total - before.preemptions_total,
        drafted_tokens=after.drafted_tokens_total - before.drafted_tokens_total,
        accepted_tokens=after.accepted_tokens_total - before.accepted_tokens_total,
    )


def _percentile(seconds: list[float], share: float) -> float:
    """Nearest-rank percentile, in milliseconds."""
    ranked = sorted(seconds)
    return 1e3 * ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
