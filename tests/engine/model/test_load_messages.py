"""An engine whose results may depend on the batch says so, with the reason, when it is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from config.model.settings import EngineSettings, GpuSettings, KVSettings
from config.model.table import Bytes
from engine.forward.cpu import CpuKernels
from engine.model.model_config import read_model_config
from engine.tensor_parallel.runner import load_runner
from engine.weights.shard import Shard, ShardExchange
from tests.parity import models

TOLD: list[tuple[str, dict[str, Any], str]] = [
    ("gemma2", {}, "attention scores are capped"),
    ("phi3-longrope", {}, "only a part of each head is rotated"),
    ("llama", {"kv": KVSettings(memory=Bytes(2**22), block_size=8)}, "kv.block_size 8 is no multiple of 16"),
    ("llama", {"gpu": GpuSettings(kernels="portable")}, "as gpu.kernels asks"),
    ("llama", {"tensor_parallel": 2}, "intermediate_size 56 is no multiple of 16"),
]


def heard(case: str, directory: Path, **changes: Any) -> str:
    said: list[str] = []
    values = {"model": models.write_model(case, directory), "kv": KVSettings(memory=Bytes(2**22)), "threads": 1}
    load_runner(EngineSettings(**{**values, **changes}), said.append).close()
    return "\n".join(said)


@pytest.mark.parametrize(("case", "changes", "why"), TOLD, ids=[row[2] for row in TOLD])
def test_why_the_compiled_kernels_do_not_serve(case: str, changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    said = heard(case, tmp_path, **changes)
    assert why in said
    assert "batch_invariant = true" in said


@pytest.mark.parametrize(("case", "changes"), [("llama", {}), ("gemma2", {"batch_invariant": True})])
def test_others_have_nothing_to_say(case: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert "batch_invariant" not in heard(case, tmp_path, **changes)


def nobody(_: int) -> ShardExchange:
    raise AssertionError


@pytest.mark.parametrize(("ranks", "fits"), [(1, True), (2, False), (7, True)])
def test_the_condition_is_of_each_ranks_part(ranks: int, fits: bool, tmp_path: Path) -> None:
    changes = {"num_attention_heads": 28, "num_key_value_heads": 28, "head_dim": 16}
    config = read_model_config(models.write_model("qwen3", tmp_path, **changes))
    assert config.intermediate_size == 112
    part = Shard(0, ranks, nobody).config(config)
    assert (CpuKernels.unfit(part, 16, torch.device("cpu"), torch.float32) is None) is fits
