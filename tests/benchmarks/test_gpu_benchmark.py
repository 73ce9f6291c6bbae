"""Smoke test of the GPU benchmark on a CPU."""

import sys
from pathlib import Path

import msgspec
import pytest
import torch

from benchmarks.engine import gpu


def test_it_runs_and_tells_shares_of_the_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    gpu.main(["--tiny", "--models", str(tmp_path), "--json", str(out)])
    report = msgspec.json.decode(out.read_bytes(), type=gpu.Report)
    assert [(it.batch, it.graphs) for it in report.decodes] == [(1, True), (1, False), (3, True), (3, False)]
    # Of such small models on a busy machine one may be more than the whole.
    assert all(it.share > 0 for it in report.decodes)
    assert [it.output_tokens for it in report.workloads] == [report.workloads[0].output_tokens] * 2
    assert report.table() in capsys.readouterr().out
    assert report.peer is not None, report.no_peer
    assert report.peer.output_tokens == report.workloads[0].output_tokens
    times = report.workloads[0].output_tokens_per_s / report.peer.output_tokens_per_s
    assert f"{times:.2f} times the output tokens/s of transformers" in report.table()


def test_a_peer_that_fails_is_left_out_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = gpu.parse(["--tiny", "--models", str(tmp_path)])
    model = gpu.write_model("tiny", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    peer, why = gpu.by_transformers(arguments, model, "tiny")
    assert peer is None
    assert "transformers" in why
    report = gpu.Report("none", "0", 1.0, (), (), peer, why)
    assert report.table().endswith(f"not compared with transformers: {why}")


def test_the_floor_counts_every_weight_once(tmp_path: Path) -> None:
    model = gpu.write_model("tiny", tmp_path)
    size = (model / "model.safetensors").stat().st_size
    assert gpu.weight_bytes("tiny") == pytest.approx(size, rel=0.05)
    assert gpu.weight_bytes("Llama-3.1-8B") == pytest.approx(2 * 7.5e9, rel=0.01)
    assert gpu.kv_bytes("Llama-3.1-8B", 1) == 131_072


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--tiny" in capsys.readouterr().err
