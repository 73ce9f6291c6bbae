"""Every tensor of a model's files must be used and finite, or the engine does not start and names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.encoder_runner import EncoderRunner
from engine.errors import ModelError
from engine.quantization.convert import quantize_model
from engine.quantization.scheme import INT8
from engine.torch_runner import TorchRunner
from tests.parity import encoders, models

Change = Callable[[dict[str, Tensor]], Any]
NAN, INF = float("nan"), float("inf")
ENCODERS = {"bert", "roberta", "bert-masked-lm"}


def put(name: str, value: float) -> Change:
    """Set the last element of a tensor."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name].view(-1)[-1] = value

    return change


def add(**more: Tensor) -> Change:
    return lambda tensors: tensors.update({name.replace("__", "."): tensor for name, tensor in more.items()})


def copy(name: str, of: str, factor: float = 1.0) -> Change:
    return lambda tensors: tensors.update({name: tensors[of] * factor})


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
EXPERT = "model.layers.0.block_sparse_moe.experts.4.w2.weight"
BROKEN: list[tuple[str, Change, str]] = [
    ("llama", put(EMBEDDING, NAN), EMBEDDING),
    ("llama", put(HEAD, INF), HEAD),
    ("llama", put("model.norm.weight", -INF), "model.norm.weight"),
    ("llama", put("model.layers.2.mlp.down_proj.weight", NAN), "model.layers.2.mlp.down_proj.weight"),
    ("llama-biases", put("model.layers.1.self_attn.o_proj.bias", INF), "model.layers.1.self_attn.o_proj.bias"),
    ("qwen3", put("model.layers.0.self_attn.q_norm.weight", NAN), "model.layers.0.self_attn.q_norm.weight"),
    ("phi3", put("model.layers.0.mlp.gate_up_proj.weight", NAN), "model.layers.0.mlp.gate_up_proj.weight"),
    ("bert", put("encoder.layer.0.output.LayerNorm.bias", NAN), "encoder.layer.0.output.LayerNorm.bias"),
    ("bert", put("embeddings.word_embeddings.weight", INF), "embeddings.word_embeddings.weight"),
    ("llama", add(model__layers__3__mlp__up_proj__weight=torch.ones(1)), "model.layers.3.mlp.up_proj.weight"),
    ("qwen2", add(model__layers__0__self_attn__o_proj__bias=torch.ones(64)), "model.layers.0.self_attn.o_proj.bias"),
    ("mistral-window", add(model__layers__0__self_attn__q_norm__weight=torch.ones(32)), "self_attn.q_norm.weight"),
    ("llama", add(model__layers__0__self_attn__k_scale=torch.ones(1)), "model.layers.0.self_attn.k_scale"),
    ("mixtral", copy(EXPERT.replace("4", "5"), EXPERT), EXPERT.replace("4", "5")),
    ("qwen2", copy(HEAD, EMBEDDING, 1.5), "tie_word_embeddings"),
    ("gemma2", copy(HEAD, EMBEDDING, 1.5), "tie_word_embeddings"),
    ("bert", add(encoder__layer__0__adapter__weight=torch.ones(2)), "encoder.layer.0.adapter.weight"),
]
GOOD: list[tuple[str, Change]] = [
    ("llama", add(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(8))),
    ("llama", add(model__rotary_emb__inv_freq=torch.ones(8))),
    ("qwen2", copy(HEAD, EMBEDDING)),
    ("bert", add(embeddings__position_ids=torch.arange(140)[None], pooler__dense__bias=torch.ones(48))),
    ("bert-masked-lm", add(cls__seq_relationship__bias=torch.ones(2))),
    ("roberta", add(lm_head__dense__bias=torch.ones(48))),
]


def written(case: str, directory: Path, change: Change, *more: Change) -> Path:
    (encoders.write_encoder if case in ENCODERS else models.write_model)(case, directory)
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for each in (change, *more):
        each(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return directory


def load(case: str, directory: Path, **more: Any) -> None:
    settings = EngineSettings(model=directory, kv=KVSettings(memory=Bytes(2**22)), threads=1, **more)
    (EncoderRunner if case in ENCODERS else TorchRunner)(settings, lambda _: None)


@pytest.mark.parametrize(("case", "change", "name"), BROKEN, ids=[f"{row[0]}-{row[2]}" for row in BROKEN])
def test_what_is_not_finite_or_read_by_nobody_is_refused_by_name(
    case: str, change: Change, name: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as refused:
        load(case, written(case, tmp_path, change))
    assert name in refused.value.message


@pytest.mark.parametrize(("case", "change"), GOOD, ids=range(len(GOOD)))
def test_what_changes_nothing_may_lie_there(case: str, change: Change, tmp_path: Path) -> None:
    load(case, written(case, tmp_path, change))


def test_what_the_operator_names_may_lie_there(tmp_path: Path) -> None:
    directory = written("llama", tmp_path, add(mtp__a__weight=torch.ones(1), mtp__b__weight=torch.ones(1)))
    with pytest.raises(ModelError, match=r"mtp\.a\.weight, mtp\.b\.weight"):
        load("llama", directory)
    load("llama", directory, ignore_tensors=("mtp.*",))


@pytest.mark.parametrize("kind", [None, "int8"])
def test_scales_and_weights_that_are_quantized_are_finite(kind: str | None, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.o_proj.weight"
    if kind == "int8":
        directory = written("llama", tmp_path, put(name, NAN))
        with pytest.raises(ModelError, match=name):
            load("llama", directory, quantization=kind)
        return
    quantize_model(models.write_model("llama", tmp_path / "whole"), tmp_path / "int8", INT8, lambda _: None)
    path = tmp_path / "int8" / "model.safetensors"
    tensors = load_file(path)
    load("llama", tmp_path / "int8")
    tensors[f"{name}_scale"][0] = INF
    save_file(tensors, path)
    with pytest.raises(ModelError, match=f"{name}_scale"):
        load("llama", tmp_path / "int8")


def test_what_lies_beside_a_whole_model_is_no_part_of_it(tmp_path: Path) -> None:
    directory = models.write_model("llama", tmp_path)
    save_file({"base_model.model.x.lora_A.weight": torch.ones(1)}, directory / "adapter_model.safetensors")
    save_file({EMBEDDING: torch.full((211, 64), NAN)}, directory / "another.safetensors")
    load("llama", directory)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    directory = models.write_model("llama", tmp_path)
    (directory / "model.safetensors").rename(directory / "model-1.safetensors")
    save_file({EMBEDDING: torch.zeros(211, 64)}, directory / "model-2.safetensors")
    with pytest.raises(ModelError, match=EMBEDDING):
        load("llama", directory)
