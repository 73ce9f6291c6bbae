"""LoRA adapters with random weights over the models of `tests.parity.models`, made and saved by PEFT itself."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tests.parity import models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from peft import LoraConfig, PeftModel, get_peft_model

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OPTIONS: dict[str, dict[str, Any]] = {
    "all": {"r": 8, "lora_alpha": 16, "target_modules": ALL},
    "attention": {"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]},
    "odd": {"r": 3, "lora_alpha": 5, "target_modules": ["k_proj"], "layers_to_transform": [1]},
    "patterns": {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ALL,
        "rank_pattern": {"q_proj": 6, "layers.1.mlp.down_proj": 5},
        "alpha_pattern": {"up_proj": 9, r"model.layers.[02].self_attn.q_proj": 1},
    },
    "fused": {"r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]},
}


def write_adapter(kind: str, base: Path, directory: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Random A and B (PEFT's own B is zero, and hides everything); large enough that answers change."""
    torch.manual_seed(1000 + seed)
    with _old_words():
        model = get_peft_model(models.reference(base, dtype), LoraConfig(task_type="CAUSAL_LM", **OPTIONS[kind]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(directory)
    return directory


def write_pair(case: str, base: Path, directory: Path, *, seed: int = 0) -> dict[str, Path]:
    """Two different ones that fit the case, "a" and "b"; of experts only the attention."""
    first, second = "all", "patterns"
    if case.startswith("phi3"):
        first = second = "fused"
    elif case in {"mixtral", "qwen3-moe"}:
        first, second = "attention", "odd"
    return {
        "a": write_adapter(first, base, directory / "a", seed=2 * seed),
        "b": write_adapter(second, base, directory / "b", seed=2 * seed + 1),
    }


def adapted(base: Path, adapter: Path, dtype: torch.dtype = torch.float32, *, merged: bool = False) -> Any:
    """What PEFT makes of both, its weights merged into the model's or beside them."""
    with _old_words():
        model = PeftModel.from_pretrained(models.reference(base, dtype), adapter)
    return (model.merge_and_unload() if merged else model).eval()


@contextmanager
def _old_words() -> Iterator[None]:
    """PEFT asks this transformers for something by the name that it had before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
