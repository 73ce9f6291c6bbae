from pathlib import Path

import msgspec

from engine.bench import run_bench
from tests.parity import models


def test_report_counts_what_was_asked_for(tmp_path: Path) -> None:
    heard: list[str] = []
    directory = models.write_model("llama", tmp_path)  # 512 positions: the workloads shrink
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
    assert (report.dtype, report.threads) == ("float32", 1)
    assert "running 1 stream, 85 in, 85 out" in heard
    assert len(report.table().splitlines()) == 2 + 2 + 3
    assert msgspec.json.decode(msgspec.json.encode(report))["workloads"][2]["requests"] == 32
