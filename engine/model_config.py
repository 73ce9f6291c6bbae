"""What a Hugging Face `config.json` says about a decoder, as explicit options that one decoder obeys."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ModelError

RopeType = Literal["default", "linear", "llama3"]


class Rope(msgspec.Struct, frozen=True):
    """Rotary position embedding ("RoFormer", section 3.4), with the scalings of long-context checkpoints."""

    theta: float = 10_000.0
    type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The shape and the options of a decoder-only transformer of the Llama family."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    max_positions: int
    rope: Rope
    tied_head: bool | None
    """None: the file does not say; tied if there is no `lm_head.weight`."""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm over each head of q and k before the rotation (Qwen3)."""
    windows: tuple[int, ...]
    """For each layer the tokens that a query sees, itself included; 0 means all."""


def read_model_config(directory: Path) -> ModelConfig:
    """Read `directory/config.json`.

    Raises:
        ModelError: the file is missing, unreadable, incomplete, or asks for something that the engine does not do.
    """
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "it needs config.json, *.safetensors and tokenizer.json"
        what = "is not a model directory" if directory.is_dir() else "does not exist"
        raise ModelError("model_not_found", f"{directory} {what}: {hint}") from None
    except (OSError, ValueError) as error:
        raise ModelError("model_config", f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError("model_config", f"{path} must hold a JSON object")
    return _Reader(path, raw).config()


class _Reader:
    """Takes typed values out of one config.json; every complaint names the file and the key."""

    def __init__(self, path: Path, raw: dict[str, Any]) -> None:
        self._path = path
        self._raw = raw

    def config(self) -> ModelConfig:
        known = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
        names = self._raw.get("architectures") or []
        architecture = str(names[0]) if isinstance(names, list) and names else "(none)"
        if architecture not in known:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: architecture {architecture} is not supported; supported are {', '.join(sorted(known))}",
            )
        activation = self._raw.get("hidden_act", "silu")
        if activation != "silu":
            raise ModelError(
                "model_unsupported", f"{self._path}: hidden_act {activation!r} is not supported, only silu"
            )
        heads, hidden, layers = (
            self._int("num_attention_heads"),
            self._int("hidden_size"),
            self._int("num_hidden_layers"),
        )
        kv_heads = self._int("num_key_value_heads", heads)
        if heads % kv_heads:
            raise self._bad("num_key_value_heads", f"{heads} attention heads cannot share {kv_heads} KV heads evenly")
        head_dim = self._int("head_dim", hidden // heads)
        if head_dim % 2:
            raise self._bad("head_dim", f"{head_dim} is odd: rotary embeddings turn pairs")
        qwen2 = architecture == "Qwen2ForCausalLM"
        attention_bias = self._bool("attention_bias", default=False) and not qwen2
        tied = self._raw.get("tie_word_embeddings")
        return ModelConfig(
            architecture=architecture,
            vocab_size=self._int("vocab_size"),
            hidden_size=hidden,
            intermediate_size=self._int("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rms_eps=self._float("rms_norm_eps", 1e-6),
            max_positions=self._int("max_position_embeddings"),
            rope=self._rope(),
            tied_head=None if tied is None else bool(tied),
            qkv_bias=qwen2 or (attention_bias and architecture != "MistralForCausalLM"),
            o_bias=attention_bias and architecture in {"LlamaForCausalLM", "Qwen3ForCausalLM"},
            mlp_bias=architecture == "LlamaForCausalLM" and self._bool("mlp_bias", default=False),
            qk_norm=architecture == "Qwen3ForCausalLM",
            windows=self._windows(architecture, layers),
        )

    def _windows(self, architecture: str, layers: int) -> tuple[int, ...]:
        """Mistral slides in every layer; Qwen only where it is switched on, from `max_window_layers` upwards."""
        if architecture == "LlamaForCausalLM":
            return (0,) * layers
        if architecture == "MistralForCausalLM":
            window = self._raw.get("sliding_window", 4096)
            return (0 if window is None else int(window),) * layers
        window = self._raw.get("sliding_window")
        if not self._bool("use_sliding_window", default=False) or window is None:
            return (0,) * layers
        types = self._raw.get("layer_types")
        if types is None:
            first = self._int("max_window_layers", layers)
            types = ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]
        unknown = set(types) - {"sliding_attention", "full_attention"}
        if unknown or len(types) != layers:
            raise self._bad("layer_types", f"expected {layers} of sliding_attention or full_attention")
        return tuple(int(window) if kind == "sliding_attention" else 0 for kind in types)

    def _rope(self) -> Rope:
        """Both spellings: `rope_theta` + `rope_scaling`, and `rope_parameters` of transformers 5."""
        scaling = self._raw.get("rope_parameters") or self._raw.get("rope_scaling") or {}
        if not isinstance(scaling, dict):
            raise self._bad("rope_scaling", "expected an object")
        theta = float(scaling.get("rope_theta") or self._raw.get("rope_theta") or 10_000.0)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        try:
            if kind == "default":
                return Rope(theta)
            if kind == "linear":
                return Rope(theta, "linear", float(scaling["factor"]))
            if kind == "llama3":
                return Rope(
                    theta,
                    "llama3",
                    float(scaling["factor"]),
                    float(scaling["low_freq_factor"]),
                    float(scaling["high_freq_factor"]),
                    int(scaling["original_max_position_embeddings"]),
                )
        except KeyError as error:
            raise self._bad("rope_scaling", f"type {kind} needs {error.args[0]}") from None
        raise ModelError(
            "model_unsupported", f"{self._path}: rope type {kind!r} is not supported; default, linear and llama3 are"
        )

    def _bad(self, key: str, why: str) -> ModelError:
        return ModelError("model_config", f"{self._path}: {key}: {why}")

    def _int(self, key: str, default: int | None = None) -> int:
        value = self._raw.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._bad(key, f"expected a positive whole number, found {value!r}")
        return value

    def _float(self, key: str, default: float) -> float:
        value = self._raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._bad(key, f"expected a number, found {value!r}")
        return float(value)

    def _bool(self, key: str, *, default: bool) -> bool:
        value = self._raw.get(key, default)
        if not isinstance(value, bool):
            raise self._bad(key, f"expected true or false, found {value!r}")
        return value
