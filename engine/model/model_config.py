"""What a Hugging Face `config.json` says about a decoder, as explicit options that one decoder obeys."""

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ModelError
from engine.model.config_reader import ConfigReader, architecture_of, read_config
from engine.model.encoder_config import ENCODERS

RopeType = Literal["default", "linear", "llama3", "yarn", "longrope"]
Activation = Literal["silu", "gelu_tanh"]


class Rope(msgspec.Struct, frozen=True):
    """Rotary position embedding ("RoFormer", section 3.4), with the scalings of long-context checkpoints."""

    theta: float = 10_000.0
    type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    """Cosines and sines are multiplied by it (yarn, longrope)."""
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    """One for each pair (longrope): the long ones where sequences may be longer than `original_max_position`."""


class Experts(msgspec.Struct, frozen=True):
    """Mixture of experts in place of one MLP ("Mixtral of Experts", section 2.1)."""

    count: int
    active: int
    """Experts that a token goes through."""
    intermediate_size: int
    renormalize: bool
    """The weights of the active ones add up to 1."""
    layers: tuple[bool, ...]
    """Which layers have them; the others have one MLP."""


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
    local_rope: Rope | None = None
    """In layers with a window, if not `rope` (Gemma 3)."""
    rotary_dim: int
    """Leading part of a head that is rotated; mostly all of it."""
    tied_head: bool | None
    """None: the file does not say; tied if there is no `lm_head.weight`."""
    activation: Activation = "silu"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False
    """The file holds q, k and v in one tensor, and gate and up in another (Phi-3)."""
    qk_norm: bool = False
    """RMS norm over each head of q and k before the rotation (Qwen3, Gemma 3)."""
    norm_offset: float = 0.0
    """Added to every norm's weight (Gemma: 1)."""
    post_norms: bool = False
    """Norms also behind attention and MLP, before the residual is added (Gemma 2 and 3)."""
    embedding_scale: float = 1.0
    query_scale: float
    """Scores are multiplied by it; mostly head_dim ** -0.5."""
    score_cap: float = 0.0
    """Scores become cap · tanh(score / cap); 0: they do not (Gemma 2)."""
    logit_cap: float = 0.0
    experts: Experts | None = None
    windows: tuple[int, ...]
    """For each layer the tokens that a query sees, itself included; 0 means all."""


ARCHITECTURES = {
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Phi3ForCausalLM": "phi3",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}
"""Names in `architectures`, and the family whose options they imply."""
_GEMMAS = ("gemma2", "gemma3")


def read_model_config(directory: Path) -> ModelConfig:
    """Read `directory/config.json`.

    Raises:
        ModelError: the file is missing, unreadable, incomplete, or asks for something that the engine does not do.
    """
    return _Reader(*read_config(directory)).config()


class _Reader(ConfigReader):
    def config(self) -> ModelConfig:
        architecture = architecture_of(self._raw)
        if architecture in ENCODERS:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: {architecture} is an encoder: it makes embeddings and no text, so that this needs "
                "another model",
            )
        if architecture not in ARCHITECTURES:
            supported = ", ".join(sorted(ARCHITECTURES))
            raise ModelError(
                "model_unsupported",
                f"{self._path}: architecture {architecture} is not supported; supported are {supported}",
            )
        family = ARCHITECTURES[architecture]
        heads, hidden, layers = (
            self._int("num_attention_heads"),
            self._int("hidden_size"),
            self._int("num_hidden_layers"),
        )
        kv_heads = self._int("num_key_value_heads", heads)
        if heads % kv_heads:
            raise self._bad("num_key_value_heads", f"{heads} attention heads cannot share {kv_heads} KV heads evenly")
        head_dim = self._int("head_dim", hidden // heads)
        rotary_dim = int(head_dim * self._partial_rotary_factor())
        if rotary_dim % 2:
            raise self._bad("head_dim", f"{rotary_dim} is odd: rotary embeddings turn pairs")
        gemma = family in {"gemma2", "gemma3"}
        attention_bias = self._bool("attention_bias", default=False)
        tied = self._raw.get("tie_word_embeddings")
        rope, local_rope = self._ropes(family)
        return ModelConfig(
            architecture=architecture,
            vocab_size=self._int("vocab_size"),
            hidden_size=hidden,
            intermediate_size=self._int("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rms_eps=self._float("rms_norm_eps", 1e-5 if family in {"mixtral", "phi3"} else 1e-6),
            max_positions=self._int("max_position_embeddings"),
            rope=rope,
            local_rope=local_rope,
            rotary_dim=rotary_dim,
            tied_head=None if tied is None else bool(tied),
            activation=self._activation(gemma=gemma),
            qkv_bias=family == "qwen2" or (attention_bias and family in {"llama", "qwen3", "qwen3_moe", *_GEMMAS}),
            o_bias=attention_bias and family in {"llama", "qwen3", "qwen3_moe", *_GEMMAS},
            mlp_bias=family == "llama" and self._bool("mlp_bias", default=False),
            fused=family == "phi3",
            qk_norm=family in {"qwen3", "qwen3_moe", "gemma3"},
            norm_offset=1.0 if gemma else 0.0,
            post_norms=gemma,
            embedding_scale=hidden**0.5 if gemma else 1.0,
            query_scale=self._float("query_pre_attn_scalar", 256.0 if gemma else head_dim) ** -0.5,
            score_cap=self._cap("attn_logit_softcapping") if family == "gemma2" else 0.0,
            logit_cap=self._cap("final_logit_softcapping") if gemma else 0.0,
            experts=self._experts(family, layers),
            windows=self._windows(family, layers),
        )

    def _activation(self, *, gemma: bool) -> Activation:
        key = "hidden_activation" if gemma else "hidden_act"
        name = self._raw.get(key) or ("gelu_pytorch_tanh" if gemma else "silu")
        known: dict[object, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
        if name not in known:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: {key} {name!r} is not supported, only {' and '.join(map(str, known))}",
            )
        return known[name]

    def _cap(self, key: str) -> float:
        return 0.0 if self._raw.get(key) is None else self._float(key, 0.0)

    def _partial_rotary_factor(self) -> float:
        parameters = self._raw.get("rope_parameters")
        inner = parameters.get("partial_rotary_factor") if isinstance(parameters, dict) else None
        return float(inner) if inner is not None else self._float("partial_rotary_factor", 1.0)

    def _experts(self, family: str, layers: int) -> Experts | None:
        if family == "mixtral":
            count, active = self._int("num_local_experts", 8), self._int("num_experts_per_tok", 2)
            return Experts(count, active, self._int("intermediate_size"), True, (True,) * layers)
        if family != "qwen3_moe":
            return None
        count = self._int("num_local_experts" if "num_local_experts" in self._raw else "num_experts", 128)
        active = self._int("num_experts_per_tok", 8)
        if active > count:
            raise self._bad("num_experts_per_tok", f"{active} of {count} experts cannot be active")
        dense = self._raw.get("mlp_only_layers") or []
        step = self._int("decoder_sparse_step", 1)
        sparse = tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(layers))
        renormalize = self._bool("norm_topk_prob", default=False)
        return Experts(count, active, self._int("moe_intermediate_size"), renormalize, sparse)

    def _windows(self, family: str, layers: int) -> tuple[int, ...]:
        """Which layers slide: by `layer_types`, or by each family's own custom where the file does not list them."""
        window = self._raw.get("sliding_window", 4096 if family in {"mistral", "gemma2", "gemma3"} else None)
        if window is None or family == "llama":
            return (0,) * layers
        if family in {"qwen2", "qwen3", "qwen3_moe"} and not self._bool("use_sliding_window", default=False):
            return (0,) * layers
        types = self._raw.get("layer_types")
        if types is None or family in {"mistral", "mixtral", "phi3"}:
            match family:
                case "gemma2":
                    slides = [layer % 2 == 0 for layer in range(layers)]
                case "gemma3":
                    every = self._int("sliding_window_pattern", 6)
                    slides = [(layer + 1) % every != 0 for layer in range(layers)]
                case "qwen2" | "qwen3" | "qwen3_moe":
                    first = self._int("max_window_layers", layers)
                    slides = [layer >= first for layer in range(layers)]
                case _:
                    slides = [True] * layers
            return tuple(int(window) if slide else 0 for slide in slides)
        unknown = set(types) - {"sliding_attention", "full_attention"}
        if unknown or len(types) != layers:
            raise self._bad("layer_types", f"expected {layers} of sliding_attention or full_attention")
        return tuple(int(window) if kind == "sliding_attention" else 0 for kind in types)

    def _ropes(self, family: str) -> tuple[Rope, Rope | None]:
        """The rope of all layers, and that of the layers with a window if it is another one."""
        parameters = self._raw.get("rope_parameters")
        if isinstance(parameters, dict) and "full_attention" in parameters:
            return self._rope(parameters["full_attention"]), self._rope(parameters.get("sliding_attention") or {})
        whole = parameters or self._raw.get("rope_scaling") or {}
        if family != "gemma3":
            return self._rope(whole), None
        rope = self._rope({"rope_theta": self._raw.get("rope_theta") or 1_000_000.0, **whole})
        return rope, Rope(self._float("rope_local_base_freq", 10_000.0))

    def _rope(self, scaling: Any) -> Rope:
        """Both spellings: `rope_theta` + `rope_scaling`, and `rope_parameters` of transformers 5."""
        if not isinstance(scaling, dict):
            raise self._bad("rope_scaling", "expected an object")
        theta = float(scaling.get("rope_theta") or self._raw.get("rope_theta") or 10_000.0)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        try:
            match kind:
                case "default":
                    return Rope(theta)
                case "linear":
                    return Rope(theta, "linear", float(scaling["factor"]))
                case "llama3":
                    return Rope(
                        theta,
                        "llama3",
                        float(scaling["factor"]),
                        float(scaling["low_freq_factor"]),
                        float(scaling["high_freq_factor"]),
                        int(scaling["original_max_position_embeddings"]),
                    )
                case "yarn":
                    return self._yarn(theta, scaling)
                case "longrope":
                    return self._longrope(theta, scaling)
        except KeyError as error:
            raise self._bad("rope_scaling", f"type {kind} needs {error.args[0]}") from None
        raise ModelError(
            "model_unsupported",
            f"{self._path}: rope type {kind!r} is not supported; default, linear, llama3, yarn and longrope are",
        )

    def _yarn(self, theta: float, scaling: dict[str, Any]) -> Rope:
        """After "YaRN: Efficient Context Window Extension of Large Language Models", sections 3.2 and 3.4."""
        factor = float(scaling["factor"])
        original = scaling.get("original_max_position_embeddings") or self._int("max_position_embeddings")
        attention = scaling.get("attention_factor")
        return Rope(
            theta,
            "yarn",
            factor,
            original_max_position=int(original),
            beta_fast=float(scaling.get("beta_fast") or 32.0),
            beta_slow=float(scaling.get("beta_slow") or 1.0),
            attention_factor=float(attention) if attention is not None else 0.1 * math.log(max(factor, 1.0)) + 1.0,
        )

    def _longrope(self, theta: float, scaling: dict[str, Any]) -> Rope:
        """After "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", as Phi-3 uses it."""
        most = self._int("max_position_embeddings")
        original = self._raw.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings")
        original = int(original or most)
        factor = most / original
        attention = scaling.get("attention_factor")
        if attention is None:
            attention = 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))
        return Rope(
            theta,
            "longrope",
            factor,
            original_max_position=original,
            attention_factor=float(attention),
            short_factors=tuple(map(float, scaling["short_factor"])),
            long_factors=tuple(map(float, scaling["long_factor"])),
        )
