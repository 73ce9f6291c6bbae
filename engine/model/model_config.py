"""Configuration of a decoder, read from a Hugging Face `config.json` into explicit options."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import ModelError
from engine.model.config_reader import architecture_of, read_config
from engine.model.encoder_config import ENCODERS
from engine.model.rope_config import Rope, RopeReader

Activation = Literal["silu", "gelu_tanh"]


class Experts(msgspec.Struct, frozen=True):
    """Mixture of experts in place of the dense MLP (Jiang et al., "Mixtral of Experts", section 2.1)."""

    count: int
    active: int
    """Experts per token."""
    intermediate_size: int
    renormalize: bool
    """The weights of the active experts are scaled to a sum of 1."""
    layers: tuple[bool, ...]
    """Which layers have experts; the others have a dense MLP."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and options of a decoder-only transformer of the Llama family."""

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
    """Rotary embedding of layers with a sliding window, if it differs from `rope` (Gemma 3)."""
    rotary_dim: int
    """Leading elements of a head that are rotated; usually all `head_dim`."""
    tied_head: bool | None
    """The head shares the embedding's weights. None: not stated; shared if the files have no `lm_head.weight`."""
    activation: Activation = "silu"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False
    """The files hold q, k and v in one tensor, and gate and up in another (Phi-3)."""
    qk_norm: bool = False
    """RMS norm over each head of q and k before the rotation (Qwen3, Gemma 3)."""
    norm_offset: float = 0.0
    """Added to every norm's weight (Gemma: 1)."""
    post_norms: bool = False
    """Norms also after attention and MLP, before the residual addition (Gemma 2 and 3)."""
    embedding_scale: float = 1.0
    query_scale: float
    """Attention scores are multiplied by it; usually head_dim ** -0.5."""
    score_cap: float = 0.0
    """Soft cap: scores become cap · tanh(score / cap); 0: none (Gemma 2)."""
    logit_cap: float = 0.0
    experts: Experts | None = None
    windows: tuple[int, ...]
    """Per layer, the number of tokens that a query attends to, itself included; 0: all."""


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
"""Model family by the name in `architectures`, of models that make text."""


def _variants(suffix: str) -> dict[str, str]:
    names = {name.replace("ForCausalLM", suffix): family for name, family in ARCHITECTURES.items()}
    del names[f"Gemma3{suffix}"]  # it has images, too
    return {**names, f"Gemma3Text{suffix}": "gemma3"}


BASE_MODELS = _variants("Model")
"""The same, of models without a head: what they make of a text is an embedding."""
SEQUENCE_CLASSIFIERS = _variants("ForSequenceClassification")
"""The same, of models whose head makes scores of labels."""
_KNOWN = {**ARCHITECTURES, **BASE_MODELS, **SEQUENCE_CLASSIFIERS}
_GEMMAS = ("gemma2", "gemma3")
_ACTIVATIONS: dict[object, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
_KV_HEADS = {"mistral": 8, "mixtral": 8, "qwen2": 32, "qwen3": 32, "qwen3_moe": 4, "gemma2": 4, "gemma3": 4}
"""Defaults of transformers' config classes; for other families the number of attention heads."""
_HEAD_DIMS = {"qwen3": 128, "gemma2": 256, "gemma3": 256}
"""Defaults of transformers' config classes; for other families `hidden_size` / attention heads."""
_WINDOW = 4096
_SLIDING, _FULL = "sliding_attention", "full_attention"


def read_model_config(directory: Path, ignored: Collection[str] | None = ()) -> ModelConfig:
    """Read `directory/config.json`.

    `ignored`: keys to ignore. None: do not check for unsupported keys, for callers that do not run the model. Raises
    ModelError: the file is missing, unreadable or incomplete, or needs what is not supported.
    """
    path, raw = read_config(directory)
    return _Reader(path, raw, ignored or ()).config(checked=ignored is not None)


class _Reader(RopeReader):
    def config(self, *, checked: bool) -> ModelConfig:
        architecture = architecture_of(self._raw)
        if architecture in ENCODERS:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: {architecture} is an encoder: it makes embeddings and no text, so that this needs "
                "another model",
            )
        family = self.family(_KNOWN, "supported", checked=checked)
        heads, hidden = self.whole("num_attention_heads"), self.whole("hidden_size")
        layers = self.whole("num_hidden_layers")
        kv_heads = self.whole(
            "num_key_value_heads", self._left_out("num_key_value_heads", _KV_HEADS.get(family), heads)
        )
        if heads % kv_heads:
            raise self.bad("num_key_value_heads", f"{heads} attention heads cannot share {kv_heads} KV heads evenly")
        head_dim = self.whole("head_dim", self._left_out("head_dim", _HEAD_DIMS.get(family), hidden // heads))
        ropes = self.ropes(family)
        rotary_dim = int(head_dim * ropes.partial)
        if rotary_dim % 2:
            raise self.bad("head_dim", f"{rotary_dim} is odd: rotary embeddings turn pairs")
        for rope in filter(None, (ropes.rope, ropes.local)):
            for key, factors in (("short_factor", rope.short_factors), ("long_factor", rope.long_factors)):
                if factors and len(factors) != rotary_dim // 2:
                    why = f"{len(factors)} numbers for {rotary_dim // 2} pairs of a head"
                    raise self.bad(f"rope_scaling.{key}", why)
        gemma = family in _GEMMAS
        key, default = ("hidden_activation", "gelu_pytorch_tanh") if gemma else ("hidden_act", "silu")
        attention_bias = self.flag("attention_bias", default=False)
        tied = self._raw.get("tie_word_embeddings", True if gemma else None)
        return ModelConfig(
            architecture=architecture,
            vocab_size=self.whole("vocab_size"),
            hidden_size=hidden,
            intermediate_size=self.whole("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rms_eps=self.number("rms_norm_eps", 1e-5 if family in {"mixtral", "phi3"} else 1e-6),
            max_positions=self.whole("max_position_embeddings"),
            rope=ropes.rope,
            local_rope=ropes.local,
            rotary_dim=rotary_dim,
            tied_head=None if tied is None else bool(tied),
            activation=self.chosen(key, self._raw.get(key) or default, _ACTIVATIONS),
            qkv_bias=family == "qwen2" or (attention_bias and family in {"llama", "qwen3", "qwen3_moe", *_GEMMAS}),
            o_bias=attention_bias and family in {"llama", "qwen3", "qwen3_moe", *_GEMMAS},
            mlp_bias=family == "llama" and self.flag("mlp_bias", default=False),
            fused=family == "phi3",
            qk_norm=family in {"qwen3", "qwen3_moe", "gemma3"},
            norm_offset=1.0 if gemma else 0.0,
            post_norms=gemma,
            embedding_scale=hidden**0.5 if gemma else 1.0,
            query_scale=(self._positive("query_pre_attn_scalar", 256.0) if gemma else head_dim) ** -0.5,
            score_cap=self._cap("attn_logit_softcapping", 50.0) if family == "gemma2" else 0.0,
            logit_cap=self._cap("final_logit_softcapping", 30.0 if family == "gemma2" else None) if gemma else 0.0,
            experts=self._experts(family, layers),
            windows=self._windows(family, layers),
        )

    def _left_out(self, key: str, default: int | None, otherwise: int) -> int:
        """The default of a key: transformers' classes distinguish an absent key (`default`) from null (`otherwise`)."""
        return otherwise if default is None or key in self._raw else default

    def _positive(self, key: str, default: float) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise self.bad(key, f"expected a number above 0, found {value!r}")
        return value

    def _cap(self, key: str, default: float | None) -> float:
        """The soft cap; 0: none. An absent key means `default`, null means none."""
        if self._raw.get(key, default) is None:
            return 0.0
        return self._positive(key, default or 0.0)

    def _experts(self, family: str, layers: int) -> Experts | None:
        if family not in {"mixtral", "qwen3_moe"}:
            return None
        counts = {key: self._raw[key] for key in ("num_local_experts", "num_experts") if self._raw.get(key) is not None}
        if len(set(counts.values())) > 1:
            raise self.bad("num_experts", "says another thing than num_local_experts; keep the one that is meant")
        mixtral = family == "mixtral"
        count = self.whole(next(iter(counts), "num_experts"), 8 if mixtral else 128)
        active = self.whole("num_experts_per_tok", 2 if mixtral else 8)
        if active > count:
            raise self.bad("num_experts_per_tok", f"{active} of {count} experts cannot be active")
        if mixtral:
            return Experts(count, active, self.whole("intermediate_size"), True, (True,) * layers)
        dense = self._raw.get("mlp_only_layers") or []
        if not isinstance(dense, list) or not all(type(layer) is int for layer in dense):
            raise self.bad("mlp_only_layers", f"expected a list of layers, found {dense!r}")
        step = self.whole("decoder_sparse_step", 1)
        sparse = tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(layers))
        renormalize = self.flag("norm_topk_prob", default=False)
        return Experts(count, active, self.whole("moe_intermediate_size", 768), renormalize, sparse)

    def _windows(self, family: str, layers: int) -> tuple[int, ...]:
        """The window of each layer, by `layer_types` or, where the file does not list them, by the family's pattern."""
        window = self._window(family)
        slides = self._custom(family, layers, window)
        types = self._raw.get("layer_types")
        if types is not None:
            if not isinstance(types, list) or len(types) != layers or not {*map(str, types)} <= {_SLIDING, _FULL}:
                raise self.bad("layer_types", f"expected {layers} of {_SLIDING} or {_FULL}")
            listed = [kind == _SLIDING for kind in types]
            if any(listed) and window is None:
                raise self.bad("layer_types", f"{_SLIDING} needs sliding_window and use_sliding_window")
            if listed != slides and family not in {"qwen2", "qwen3", *_GEMMAS}:
                raise self.unsupported("layer_types", types, "this architecture's layers are all of one kind")
            slides = listed
        return tuple((window or 0) if slide else 0 for slide in slides)

    def _window(self, family: str) -> int | None:
        """The window in tokens; None: no layer has one."""
        if family == "llama":
            if self._raw.get("sliding_window") is not None:
                raise self.unsupported("sliding_window", self._raw["sliding_window"], "Llama's layers have none")
            return None
        if family in {"qwen2", "qwen3", "qwen3_moe"} and not self.flag("use_sliding_window", default=False):
            return None
        default = None if family in {"mixtral", "phi3"} else _WINDOW
        return None if self._raw.get("sliding_window", default) is None else self.whole("sliding_window", default)

    def _custom(self, family: str, layers: int, window: int | None) -> list[bool]:
        if window is None:
            return [False] * layers
        match family:
            case "gemma2":
                return [layer % 2 == 0 for layer in range(layers)]
            case "gemma3":
                key = "sliding_window_pattern"
                every = self.whole(key if key in self._raw else f"_{key}", 6)
                return [(layer + 1) % every != 0 for layer in range(layers)]
            case "qwen2" | "qwen3":
                first = self._raw.get("max_window_layers", 28)
                if type(first) is not int or first < 0:
                    raise self.bad("max_window_layers", f"expected a number of layers, found {first!r}")
                return [layer >= first for layer in range(layers)]
        return [True] * layers
