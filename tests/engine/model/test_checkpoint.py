import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import ModelError
from engine.model.checkpoint import Checkpoint


def test_reads_shards_and_converts(tmp_path: Path) -> None:
    first, second = torch.arange(6.0).reshape(2, 3), torch.ones(4, dtype=torch.float16)
    save_file({"a": first}, tmp_path / "one.safetensors")
    save_file({"b": second}, tmp_path / "two.safetensors")
    save_file({"c": second}, tmp_path / "stray.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with Checkpoint(tmp_path) as checkpoint:
        assert "a" in checkpoint
        assert "c" not in checkpoint
        assert checkpoint.dtype("b") == torch.float16
        assert torch.equal(checkpoint.take("a", (2, 3), torch.bfloat16), first.bfloat16())
        assert checkpoint.take("b", (4,), torch.float32).dtype == torch.float32


def test_errors_name_the_tensor(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "i": torch.zeros(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint:
        with pytest.raises(ModelError, match=r"tensor missing\.weight is missing") as caught:
            checkpoint.take("missing.weight", (1,), torch.float32)
        assert caught.value.code == "model_tensor"
        with pytest.raises(ModelError, match=r"tensor a has shape \[2, 3\], config.json implies \[3, 2\]"):
            checkpoint.take("a", (3, 2), torch.float32)
        with pytest.raises(ModelError, match="tensor i is I8") as caught:
            checkpoint.take("i", (2,), torch.float32)
        assert caught.value.code == "model_unsupported"


def test_files_that_are_not_safetensors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no \*.safetensors"):
        Checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        Checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="not an index"):
        Checkpoint(tmp_path)
