"""Configuration of ModernBERT (Warner et al., "Smarter, Better, Faster, Longer", section 2).

Its layers have rotary positions and norms before attention and MLP; most of them attend within a window.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.model.sentence_modules import Sentence
from engine.model.vectors import EmbeddingSizes, ScoreActivation, VectorReader

ModernActivation = Literal["gelu", "gelu_tanh", "relu", "silu"]
_ACTIVATIONS: dict[object, ModernActivation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_POOLINGS: dict[object, Literal["cls", "mean"]] = {"cls": "cls", "mean": "mean"}
_SLIDING, _FULL = "sliding_attention", "full_attention"


class ModernConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and options of a ModernBERT, with its pooling."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    norm_eps: float
    norm_bias: bool
    attention_bias: bool
    mlp_bias: bool
    activation: ModernActivation
    reach: tuple[int | None, ...]
    """Per layer, how many tokens to each side a token attends to; None: all."""
    thetas: tuple[float, ...]
    """Per layer, the base of the rotary embedding."""
    classifier_pooling: Literal["cls", "mean"]
    classifier_bias: bool
    classifier_activation: ModernActivation
    max_tokens: int
    """The longest input: `usable_positions`, or less if the files of sentence-transformers limit it."""
    usable_positions: int
    sentence: Sentence
    sizes: EmbeddingSizes
    scored_by: ScoreActivation | None = None
    """As in `EncoderConfig`."""


def read_modern_config(
    path: Path, raw: dict[str, Any], ignored: Collection[str], sentence: Sentence, *, classifies: bool
) -> ModernConfig:
    """From the object in the file at `path`, whose keys are checked. Raises ModelError."""
    return _Reader(path, raw, ignored).config(sentence, classifies=classifies)


class _Reader(VectorReader):
    def config(self, sentence: Sentence, *, classifies: bool) -> ModernConfig:
        labels = self.labels() if classifies else ()
        heads, hidden = self.whole("num_attention_heads", 12), self.whole("hidden_size", 768)
        if hidden % heads or hidden // heads % 2:
            raise self.bad("num_attention_heads", f"{heads} heads cannot share {hidden} evenly, in pairs")
        slides = self._slides(self.whole("num_hidden_layers", 22))
        window = self.whole("local_attention", 128)
        near, far = self._theta(_SLIDING, "local", 10_000.0), self._theta(_FULL, "global", 160_000.0)
        positions = self.whole("max_position_embeddings", 8192)
        return ModernConfig(
            vocab_size=self.whole("vocab_size", 50368),
            hidden_size=hidden,
            intermediate_size=self.whole("intermediate_size", 1152),
            layers=len(slides),
            heads=heads,
            norm_eps=self.number("norm_eps", 1e-5),
            norm_bias=self.flag("norm_bias", default=False),
            attention_bias=self.flag("attention_bias", default=False),
            mlp_bias=self.flag("mlp_bias", default=False),
            activation=self._activation("hidden_activation"),
            reach=tuple([window // 2 if slide else None for slide in slides]),
            thetas=tuple([near if slide else far for slide in slides]),
            classifier_pooling=self.chosen(
                "classifier_pooling", self._raw.get("classifier_pooling") or "cls", _POOLINGS
            ),
            classifier_bias=self.flag("classifier_bias", default=False),
            classifier_activation=self._activation("classifier_activation"),
            max_tokens=min(positions, sentence.max_tokens or positions),
            usable_positions=positions,
            sentence=sentence,
            sizes=EmbeddingSizes(len(labels), labels=labels)
            if labels
            else EmbeddingSizes(hidden, self.shorter_sizes(hidden)),
            scored_by=self.score_activation(len(labels)) if labels else None,
        )

    def _activation(self, key: str) -> ModernActivation:
        return self.chosen(key, self._raw.get(key) or "gelu", _ACTIVATIONS)

    def _slides(self, layers: int) -> list[bool]:
        """Which layers attend within a window: `layer_types`, else all but every n-th from the first on."""
        types = self._raw.get("layer_types")
        if types is None:
            every = self.whole("global_attn_every_n_layers", 3)
            return [layer % every != 0 for layer in range(layers)]
        if not isinstance(types, list) or len(types) != layers or not {*map(str, types)} <= {_SLIDING, _FULL}:
            raise self.bad("layer_types", f"expected {layers} of {_SLIDING} or {_FULL}")
        return [kind == _SLIDING for kind in types]

    def _theta(self, kind: str, name: str, default: float) -> float:
        """The rotary base of a kind of layer: in `rope_parameters`, in older files a key of its own."""
        ropes = self._raw.get("rope_parameters") or {}
        rope = ropes.get(kind) or {} if isinstance(ropes, dict) else None
        if not isinstance(rope, dict):
            raise self.bad("rope_parameters", f"expected an object with {_FULL} and {_SLIDING}")
        scaling = rope.get("rope_type", "default")
        if scaling != "default":
            raise self.unsupported(f"rope_parameters.{kind}.rope_type", scaling, "only default is")
        within = _Reader(self._path, {"rope_theta": rope.get("rope_theta")}, within=f"rope_parameters.{kind}.")
        theta = within.number("rope_theta", self.number(f"{name}_rope_theta", default))
        if theta <= 0:
            raise self.bad(f"{name}_rope_theta", f"expected a number above 0, found {theta!r}")
        return theta
