"""Read and check a LoRA adapter in PEFT's format: adapter_config.json and adapter_model.safetensors.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1: a matrix W becomes W + scale · B · A.
"""

import json
import math
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, aminmax

from engine.errors import ModelError

_PREFIX = "base_model.model."
TENSORS = "adapter_model.safetensors"
_ENDS = {".lora_A.weight": 0, ".lora_B.weight": 1}
_WITHOUT_EFFECT = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
}  # fmt: skip
"""Keys that are read elsewhere or only describe training. Any other key with a truthy value is refused."""
_NEUTRAL_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initializations that leave the base model's weights unchanged."""


class LoraModule(NamedTuple):
    """The delta scale · up · down on one matrix [out, in]."""

    down: Tensor
    """[rank, in]: PEFT's A."""
    up: Tensor
    """[out, rank]: PEFT's B."""
    scale: float


class PeftFolder(NamedTuple):
    """All modules of one adapter."""

    modules: dict[str, LoraModule]
    """By the name of the base model's module, for example "model.layers.0.self_attn.q_proj"."""
    rank: int
    """The largest rank among the modules."""
    digest: bytes
    """16-byte BLAKE2b hash of both files."""


def read_peft_folder(directory: Path, shapes: Mapping[str, tuple[int, int]], max_rank: int) -> PeftFolder:
    """Read an adapter for a model whose modules have `shapes` (outputs, inputs).

    Raises ModelError: a file is missing or broken, does not fit the model, or needs what is not supported.
    """
    config_bytes, tensor_bytes = (_content(directory, name) for name in ("adapter_config.json", TENSORS))
    config = _Config(directory / "adapter_config.json", config_bytes)
    path = directory / TENSORS
    try:
        tensors = load(tensor_bytes)
    except SafetensorError as error:
        raise ModelError("adapter_files", f"{path} cannot be read as safetensors: {error}") from error
    parts: dict[str, list[Tensor | None]] = {}
    for name, tensor in tensors.items():
        module, place = _place_of(path, name, shapes)
        parts.setdefault(module, [None, None])[place] = tensor
    if not parts:
        raise ModelError("adapter_tensor", f"{path} holds no tensor")
    config.check_targets(parts)
    modules = {}
    for module, (down, up) in parts.items():
        rank, scale = config.rank_and_scale(module)
        outputs, inputs = shapes[module]
        modules[module] = LoraModule(
            _checked(path, f"lora_A.weight of {module}", down, (rank, inputs)),
            _checked(path, f"lora_B.weight of {module}", up, (outputs, rank)),
            scale,
        )
    rank = max(len(module.down) for module in modules.values())
    if rank > max_rank:
        raise ModelError("adapter_rank", f"{directory}: rank {rank} is more than max_adapter_rank = {max_rank}")
    digest = blake2b(digest_size=16, person=b"adapter")
    for content in (config_bytes, tensor_bytes):
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return PeftFolder(modules, rank, digest.digest())


def module_of(name: str, end: str = ".lora_A.weight") -> str | None:
    """The module whose matrix A [rank, in], or B with another `end`, has this tensor name; None: another tensor."""
    module = name.removeprefix(_PREFIX).removesuffix(end)
    return module if name == f"{_PREFIX}{module}{end}" else None


def _content(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except FileNotFoundError:
        what = "it needs adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes them"
        raise ModelError("adapter_files", f"{directory} holds no {name}: {what}") from None
    except OSError as error:
        raise ModelError("adapter_files", f"{directory / name} cannot be read: {error.strerror or error}") from error


def _place_of(path: Path, name: str, shapes: Mapping[str, tuple[int, int]]) -> tuple[str, int]:
    """The module that a tensor belongs to, and 0 for its A or 1 for its B matrix."""
    for end, place in _ENDS.items():
        if (module := module_of(name, end)) is not None:
            if module in shapes:
                return module, place
            known = ", ".join(sorted({shape_name.rsplit(".", 1)[-1] for shape_name in shapes}))
            raise ModelError(
                "adapter_unsupported", f"{path}: {module} is no module that adapters are served for ({known})"
            )
    raise ModelError("adapter_unsupported", f"{path}: tensor {name} is not served; lora_A and lora_B weights are")


def _checked(path: Path, name: str, tensor: Tensor | None, shape: tuple[int, int]) -> Tensor:
    if tensor is None:
        raise ModelError("adapter_tensor", f"{path}: {name} is missing")
    if tuple(tensor.shape) != shape or not tensor.is_floating_point():
        raise ModelError(
            "adapter_tensor",
            f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}; "
            f"the model and adapter_config.json imply floats {list(shape)}",
        )
    if not all(math.isfinite(float(extreme)) for extreme in aminmax(tensor)):
        raise ModelError("adapter_tensor", f"{path}: {name} holds NaN or infinite numbers")
    return tensor


class _Config:
    """The parsed adapter_config.json; error messages name the file and the key."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        try:
            raw = json.loads(content)
        except ValueError as error:
            raise ModelError("adapter_config", f"{path} cannot be read: {error}") from error
        if not isinstance(raw, dict):
            raise ModelError("adapter_config", f"{path} must hold a JSON object")
        self._raw: dict[str, Any] = raw
        kind = raw.get("peft_type")
        if kind != "LORA":
            raise self._unsupported("peft_type", kind, '"LORA" is')
        if raw.get("bias", "none") != "none":
            raise self._unsupported("bias", raw["bias"], '"none" is')
        start = raw.get("init_lora_weights")
        if start not in _NEUTRAL_STARTS:
            raise self._unsupported(
                "init_lora_weights", start, "it changes the base model's weights; convert the adapter to plain LoRA"
            )
        for key, value in raw.items():
            if value and key not in _WITHOUT_EFFECT and key != "bias":
                raise self._unsupported(key, value, "leave it out when training, or merge the adapter into the model")
        self._rank = self._positive("r", raw.get("r"), whole=True)
        self._alpha = self._positive("lora_alpha", raw.get("lora_alpha"))
        self._ranks = self._pattern("rank_pattern", whole=True)
        self._alphas = self._pattern("alpha_pattern")

    def rank_and_scale(self, module: str) -> tuple[int, float]:
        """Rank and scale of one module; patterns are regular expressions for the end of its name."""
        rank = int(_matching(self._ranks, module, self._rank))
        alpha = _matching(self._alphas, module, self._alpha)
        return rank, alpha / (math.sqrt(rank) if self._raw.get("use_rslora") else rank)

    def check_targets(self, modules: Mapping[str, object]) -> None:
        """Check that each target module has tensors, because an incomplete file would change answers silently."""
        targets = self._raw.get("target_modules")
        for target in targets if isinstance(targets, list) else []:
            if not any(module == target or module.endswith(f".{target}") for module in modules):
                raise ModelError(
                    "adapter_tensor",
                    f"{self._path}: target_modules names {target!r}, and {TENSORS} holds nothing for such a module",
                )

    def _pattern(self, key: str, *, whole: bool = False) -> list[tuple[re.Pattern[str], float]]:
        given = self._raw.get(key) or {}
        if not isinstance(given, dict):
            raise self._bad(f"{key} must be an object, found {given!r}")
        try:
            # The same expressions as PEFT's get_pattern_key.
            return [
                (re.compile(rf"(.*\.)?({name})$"), self._positive(f"{key}.{name}", value, whole=whole))
                for name, value in given.items()
            ]
        except re.error as error:
            raise self._bad(f"{key}: {error}") from error

    def _positive(self, key: str, value: Any, *, whole: bool = False) -> float:
        kind = int if whole else int | float
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < math.inf:
            number = "whole number" if whole else "number"
            raise self._bad(f"{key} must be a positive {number}, found {value!r}")
        return float(value)

    def _bad(self, what: str) -> ModelError:
        return ModelError("adapter_config", f"{self._path}: {what}")

    def _unsupported(self, key: str, value: Any, hint: str) -> ModelError:
        shown = json.dumps(value)[:80]
        return ModelError("adapter_unsupported", f"{self._path}: {key} = {shown} is not served; {hint}")


def _matching(patterns: list[tuple[re.Pattern[str], float]], module: str, default: float) -> float:
    return next((value for pattern, value in patterns if pattern.match(module)), default)
