from pathlib import Path

import msgspec

from config.model.settings import Speculate
from engine.bench import run_bench
from tests.parity import models


def test_report_counts_what_was_asked_for(tmp_path: Path) -> None:
    heard: list[str] = []
    directory = models.write_model("llama", tmp_path)  # 512 positions: the workloads are scaled down
    report = run_bench(directory, progress=heard.append)
    one, sixteen, mix = report.workloads
    assert (one.requests, sixteen.requests, mix.requests) == (1, 16, 32)
    assert one.name == "1 stream, 85 in, 85 out"
    assert (one.prompt_tokens, one.output_tokens) == (85, 85)
    assert (sixteen.prompt_tokens, sixteen.output_tokens) == (16 * 85, 16 * 85)
    assert mix.preemptions == 0
    for workload in report.workloads:
        assert workload.output_tokens_per_s > 0
        assert 0 < workload.ttft_ms_p50 <= workload.ttft_ms_p99
        assert 0 < workload.itl_ms_p50 <= workload.itl_ms_p99
        assert workload.drafted_tokens == 0
    assert (report.dtype, report.threads) == ("float32", 1)
    assert "running 1 stream, 85 in, 85 out" in heard
    assert len(report.table().splitlines()) == 2 + 2 + 3
    assert msgspec.json.decode(msgspec.json.encode(report))["workloads"][2]["requests"] == 32


def test_a_speculating_engine_tells_what_its_drafts_were_worth(tmp_path: Path) -> None:
    """Random weights soon repeat themselves, so that drafts are right."""
    directory = models.write_model("llama", tmp_path)
    one, _, mix = run_bench(directory, overrides={"speculate": Speculate(ngram=2, tokens=4)}).workloads
    assert (one.output_tokens, mix.requests) == (85, 32)
    assert one.steps == 85 - one.accepted_tokens
    assert 0 < mix.accepted_tokens < mix.drafted_tokens


def test_the_report_tells_what_weights_are_quantized_to(tmp_path: Path) -> None:
    report = run_bench(models.write_model("llama", tmp_path), overrides={"quantization": "int8"})
    assert report.dtype == "float32, weights int8"
