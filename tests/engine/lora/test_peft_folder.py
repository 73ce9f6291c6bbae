"""Reading PEFT folders: supported settings, and refusals that name the key."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import ModelError
from engine.lora.peft_folder import PeftFolder, read_peft_folder

SHAPES = {
    f"model.layers.{layer}.{module}": shape
    for layer in (0, 1)
    for module, shape in {"self_attn.q_proj": (8, 6), "mlp.down_proj": (6, 10)}.items()
}


def write(folder: Path, *, ranks: dict[str, int] | None = None, drop: str = "", extra: str = "", **config: Any) -> Path:
    given = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    tensors = {}
    for module, (outputs, inputs) in SHAPES.items():
        rank = (ranks or {}).get(module, 2)
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, inputs)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(outputs, rank)
    if extra:
        tensors[extra] = torch.zeros(2, 2)
    tensors = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def read(folder: Path, max_rank: int = 64) -> PeftFolder:
    return read_peft_folder(folder, SHAPES, max_rank)


def refused(folder: Path, max_rank: int = 64) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        read(folder, max_rank)
    assert str(folder) in caught.value.message
    return caught.value.code, caught.value.message


def test_scales_and_ranks(tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert found.modules.keys() == SHAPES.keys()
    assert {module.scale for module in found.modules.values()} == {3.0}
    assert {module.scale for module in read(write(tmp_path, use_rslora=True)).modules.values()} == {6 / math.sqrt(2)}
    patterned = read(
        write(
            tmp_path,
            ranks={"model.layers.1.mlp.down_proj": 4},
            rank_pattern={"layers.1.mlp.down_proj": 4},
            alpha_pattern={r"model\.layers\.[01]\.self_attn\.q_proj": 1, "down_proj": 8},
        )
    )
    assert {name: module.scale for name, module in patterned.modules.items()} == {
        "model.layers.0.self_attn.q_proj": 0.5,
        "model.layers.1.self_attn.q_proj": 0.5,
        "model.layers.0.mlp.down_proj": 4.0,
        "model.layers.1.mlp.down_proj": 2.0,
    }
    assert patterned.rank == 4


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = read(write(tmp_path)).digest
    torch.manual_seed(1)
    assert read(write(tmp_path)).digest == first
    torch.manual_seed(2)
    assert read(write(tmp_path)).digest != first
    torch.manual_seed(1)
    assert read(write(tmp_path, lora_alpha=7)).digest != first


def test_what_does_not_change_the_numbers_may_stand_there(tmp_path: Path) -> None:
    read(
        write(
            tmp_path,
            lora_dropout=0.1,
            bias="none",
            modules_to_save=None,
            use_dora=False,
            init_lora_weights="gaussian",
            loftq_config={},
            base_model_name_or_path="somewhere/else",
            megatron_core="megatron.core",
            qalora_group_size=16,
            task_type="CAUSAL_LM",
            layers_to_transform=[0, 1],
            something_new=None,
        )
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("bias", "all"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("peft_type", "IA3"),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 1]]),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["experts.w1"]),
        ("alora_invocation_tokens", [1, 2]),
        ("of_a_later_peft", {"strength": 1}),
    ],
)
def test_what_is_not_served_is_named(tmp_path: Path, key: str, value: object) -> None:
    code, message = refused(write(tmp_path, **{key: value}))
    assert code == "adapter_unsupported"
    assert key in message


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        ("base_model.model.lm_head.lora_A.weight", "lm_head"),
        ("base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", "layers.7"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "lora_embedding_A"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "lora_magnitude_vector"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0"),
    ],
)
def test_tensors_that_have_no_place_are_named(tmp_path: Path, tensor: str, named: str) -> None:
    code, message = refused(write(tmp_path, extra=tensor))
    assert code == "adapter_unsupported"
    assert named in message


def test_what_is_missing_or_has_another_shape_is_named(tmp_path: Path) -> None:
    assert refused(write(tmp_path, drop="layers.1.self_attn.q_proj.lora_B"))[1].endswith("is missing")
    assert "down_proj" in refused(write(tmp_path, drop="down_proj"))[1]
    assert "'k_proj'" in refused(write(tmp_path, target_modules=["q_proj", "k_proj", "down_proj"]))[1]
    code, message = refused(write(tmp_path, ranks={"model.layers.0.mlp.down_proj": 3}))
    assert code == "adapter_tensor"
    assert "[3, 10]" in message
    assert "[2, 10]" in message
    assert refused(write(tmp_path, drop="lora"))[0] == "adapter_tensor"


def test_rank_is_bounded(tmp_path: Path) -> None:
    assert read(write(tmp_path), max_rank=2).rank == 2
    assert refused(write(tmp_path), max_rank=1)[0] == "adapter_rank"


@pytest.mark.parametrize(
    ("key", "value"), [("r", 0), ("r", "8"), ("r", True), ("lora_alpha", None), ("rank_pattern", {"(": 2})]
)
def test_numbers_that_are_none(tmp_path: Path, key: str, value: object) -> None:
    code, message = refused(write(tmp_path, **{key: value}))
    assert code == "adapter_config"
    assert key in message


def test_files(tmp_path: Path) -> None:
    assert "adapter_config.json" in refused(tmp_path)[1]
    write(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    assert refused(tmp_path)[0] == "adapter_files"
    (tmp_path / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors" in refused(tmp_path)[1]
    write(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    assert refused(tmp_path)[0] == "adapter_config"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    path = write(tmp_path) / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"][2, 1] = value
    save_file(tensors, path)
    code, message = refused(tmp_path)
    assert code == "adapter_tensor"
    assert "lora_B.weight of model.layers.1.mlp.down_proj" in message
