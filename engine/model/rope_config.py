"""Configuration of rotary position embeddings, read from config.json.

Both layouts are read: `rope_theta` with `rope_scaling`, and `rope_parameters` (transformers 5). Defaults and precedence
are those of transformers' config classes.
"""

import math
from collections.abc import Collection
from typing import Any, Literal

import msgspec

from engine.errors import ModelError
from engine.model.config_reader import ConfigReader

RopeType = Literal["default", "linear", "llama3", "yarn", "longrope"]

_THETAS = {"mixtral": 1_000_000.0}
_THETA = 10_000.0
_GEMMA3_THETA = 1_000_000.0
_PHI3_ORIGINAL = 4096
_ORIGINAL = "original_max_position_embeddings"
_BY_TYPE: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL}),
    "yarn": frozenset(
        {"factor", _ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}
    ),
    "longrope": frozenset({"factor", _ORIGINAL, "attention_factor", "short_factor", "long_factor"}),
}
"""The keys that each type uses."""
_EVERYWHERE = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "factor": (1,),
    "attention_factor": (1,),
    "attn_factor": (1,),
    "extrapolation_factor": (1,),
    "truncate": (True,),
}
"""Values under which a key that the type does not use has no effect."""
_WITHOUT_EFFECT = frozenset({_ORIGINAL, "finetuned"})
"""Keys that only describe training, if the type does not use them."""


class Rope(msgspec.Struct, frozen=True):
    """Rotary position embedding (Su et al., "RoFormer", section 3.4), with the scalings of long-context checkpoints."""

    theta: float = _THETA
    type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    """The ends of YaRN's ramp are rounded to whole pairs."""
    attention_factor: float = 1.0
    """Multiplies cosines and sines (yarn, longrope)."""
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    """One factor per pair of elements (longrope)."""

    def factors(self, longest: int) -> tuple[float, ...]:
        """The factors that an engine with this maximum sequence length uses (longrope).

        As in vLLM an engine has a single table. transformers chooses one per prompt, with the short factors up to the
        original length, but keys in the KV cache cannot be rotated again when a sequence grows beyond it.
        """
        return self.long_factors if longest > self.original_max_position else self.short_factors


class Ropes(msgspec.Struct, frozen=True):
    """Rotary embeddings of a whole decoder."""

    rope: Rope
    local: Rope | None
    """Of layers with a sliding window, if it differs."""
    partial: float
    """Fraction of a head that is rotated."""


class RopeReader(ConfigReader):
    """Reads the rotary embeddings of a decoder; error messages name the file and the key."""

    def ropes(self, family: str) -> Ropes:
        """The rotary embeddings of a model of `family`. Raises ModelError."""
        parameters, scaling = self._object("rope_parameters"), self._object("rope_scaling")
        if family == "gemma3":
            return self._of_gemma3(parameters, scaling)
        if parameters and scaling and parameters != scaling:
            raise self.bad("rope_scaling", "says another thing than rope_parameters; keep the one that is meant")
        chosen = scaling or parameters
        theta = self.number("rope_theta", _THETAS.get(family, _THETA))
        partial = self._scaling(chosen).number("partial_rotary_factor", self.number("partial_rotary_factor", 1.0))
        if partial != 1 and family != "phi3":
            raise self.unsupported("partial_rotary_factor", partial, "only Phi-3 rotates a part of each head")
        return Ropes(self._rope(chosen, theta, family), None, partial)

    def _of_gemma3(self, parameters: dict[str, Any], scaling: dict[str, Any]) -> Ropes:
        """Gemma 3 has one rope for layers with full attention, and another for those with a sliding window."""
        kinds = {"full_attention", "sliding_attention"}
        for key in parameters.keys() - kinds:
            raise self.unsupported(f"rope_parameters.{key}", parameters[key], f"Gemma 3 has {' and '.join(kinds)}")
        full, local = ({**(parameters.get(kind) or {})} for kind in sorted(kinds))
        full |= scaling
        theta = self.number("rope_theta", _GEMMA3_THETA)
        local_theta = self.number("rope_local_base_freq", _THETA)
        for part in (full, local, self._raw):
            if (partial := part.get("partial_rotary_factor")) not in {None, 1}:
                raise self.unsupported("partial_rotary_factor", partial, "only Phi-3 rotates a part of each head")
            if part.get("truncate") is False:
                raise self.unsupported("rope_parameters.truncate", False, "transformers passes over it here")
        return Ropes(self._rope(full, theta, "gemma3"), self._rope(local, local_theta, "gemma3"), 1.0)

    def _object(self, key: str) -> dict[str, Any]:
        value = self._given(key, {})
        if not isinstance(value, dict):
            raise self.bad(key, f"expected an object, found {value!r}")
        return value

    def _rope(self, raw: dict[str, Any], theta: float, family: str) -> Rope:
        fields = self._scaling(raw)
        kind = self._kind(raw, family)
        theta = fields.number("rope_theta", theta)
        if theta <= 1:
            raise self.bad("rope_theta", f"expected a number above 1, found {theta!r}")
        fields.check(kind, self._ignored)
        match kind:
            case "linear":
                return Rope(theta, "linear", fields.positive("factor"))
            case "llama3":
                low, high = fields.positive("low_freq_factor"), fields.positive("high_freq_factor")
                return Rope(theta, "llama3", fields.positive("factor"), low, high, self._original(raw, family))
            case "yarn":
                return self._yarn(theta, raw, self._original(raw, family))
            case "longrope":
                return self._longrope(theta, raw, self._original(raw, family))
        return Rope(theta)

    def _kind(self, raw: dict[str, Any], family: str) -> str:
        # Early Phi-3 files call longrope "su" or "yarn".
        names = {"su": "longrope", "yarn": "longrope"} if family == "phi3" else {}
        stated = [raw[key] for key in ("rope_type", "type") if raw.get(key) is not None]
        kinds = list(dict.fromkeys(names.get(str(name), str(name)) for name in stated)) or ["default"]
        if len(kinds) > 1:
            raise self.bad("rope_scaling", f"rope_type is {kinds[0]!r} and type is {kinds[1]!r}; keep one")
        if family == "phi3" and kinds[0] in _BY_TYPE.keys() - {"default", "longrope"}:
            raise self.unsupported("rope_scaling.rope_type", kinds[0], "Phi-3 knows default and longrope")
        if kinds[0] not in _BY_TYPE:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: rope type {kinds[0]!r} is not supported; {', '.join(_BY_TYPE)} are",
            )
        return kinds[0]

    def _original(self, raw: dict[str, Any], family: str) -> int:
        """The length of the original training; Phi-3 states it outside of `rope_scaling`."""
        inner, outer = raw.get(_ORIGINAL), self._raw.get(_ORIGINAL)
        if outer is None and family == "phi3":
            outer = _PHI3_ORIGINAL
        if inner is not None and outer is not None and inner != outer:
            raise self.bad(_ORIGINAL, f"{outer!r} for the model, and {inner!r} in rope_scaling; say one of them twice")
        length = outer if inner is None else inner
        if length is None:
            return self.whole("max_position_embeddings")
        if isinstance(length, bool) or not isinstance(length, int) or length < 2:
            raise self.bad(_ORIGINAL, f"expected a number of tokens, found {length!r}")
        return length

    def _yarn(self, theta: float, raw: dict[str, Any], original: int) -> Rope:
        """Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", sections 3.2 and 3.4."""
        fields = self._scaling(raw)
        factor = fields.number("factor", self.whole("max_position_embeddings") / original)
        one, all_dims = fields.number("mscale", 0.0), fields.number("mscale_all_dim", 0.0)
        inferred = _mscale(factor, one) / _mscale(factor, all_dims) if one and all_dims else _mscale(factor, 1.0)
        truncate = raw.get("truncate", True)
        if not isinstance(truncate, bool):
            raise self.bad("rope_scaling.truncate", f"expected true or false, found {truncate!r}")
        return Rope(
            theta,
            "yarn",
            factor,
            original_max_position=original,
            beta_fast=fields.number("beta_fast", 0.0) or 32.0,
            beta_slow=fields.number("beta_slow", 0.0) or 1.0,
            truncate=truncate,
            attention_factor=fields.number("attention_factor", inferred),
        )

    def _longrope(self, theta: float, raw: dict[str, Any], original: int) -> Rope:
        """Ding et al., "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", in the form of Phi-3."""
        fields = self._scaling(raw)
        factor = fields.number("factor", self.whole("max_position_embeddings") / original)
        inferred = 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))
        return Rope(
            theta,
            "longrope",
            factor,
            original_max_position=original,
            attention_factor=fields.number("attention_factor", inferred),
            short_factors=fields.numbers("short_factor"),
            long_factors=fields.numbers("long_factor"),
        )

    def _scaling(self, raw: dict[str, Any]) -> "_Scaling":
        return _Scaling(self._path, raw, within="rope_scaling.")


class _Scaling(ConfigReader):
    """One `rope_scaling` object."""

    def check(self, kind: str, ignored: Collection[str]) -> None:
        """Check that every key is used or has no effect. Raises ModelError."""
        for key, value in self._raw.items():
            if value is None or key in _EVERYWHERE | _BY_TYPE[kind] | _WITHOUT_EFFECT:
                continue
            if value in _NEUTRAL.get(key, ()) or f"{self._within}{key}" in ignored:
                continue
            raise self.unsupported(key, value, f"rope type {kind!r} does not act upon it")

    def positive(self, key: str) -> float:
        value = self.number(key, 0.0)
        if value <= 0:
            raise self.bad(key, f"this rope type needs {key}, a number above 0")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        values = self._raw.get(key)
        if not isinstance(values, list) or not all(type(value) in {int, float} and value > 0 for value in values):
            raise self.bad(key, f"this rope type needs {key}, a list of numbers above 0")
        return tuple(map(float, values))


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
